using AdjointDpm.Losses;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers;

/// <summary>What a loss of one's own is made for: one batch of samples on one device.</summary>
public sealed record SampleLossRequest
{
    /// <summary><c>options</c> of the loss in the spec.</summary>
    public required IReadOnlyDictionary<string, string> Options { get; init; }

    /// <summary>Class that each sample was asked to show; empty for a model without classes.</summary>
    public required IReadOnlyList<long> Labels { get; init; }

    /// <summary>Prompt of each sample; empty for a model without prompts.</summary>
    public required IReadOnlyList<string> Prompts { get; init; }

    /// <summary>Channels of the pictures.</summary>
    public required long Channels { get; init; }

    /// <summary>Dtype of the pictures: float32, or float64 where the gradient is proven.</summary>
    public required ScalarType Dtype { get; init; }

    /// <summary>Device of the pictures.</summary>
    public required Device Device { get; init; }

    /// <summary>Seed of the run: chance of a loss's own must follow from it and <see cref="Step"/>, or the run is not the same run again.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Optimiser step, from 0; 0 at evaluations.</summary>
    public required uint Step { get; init; }

    /// <summary>Cancelled when nobody waits for the batch any more.</summary>
    public CancellationToken Cancellation { get; init; }
}

/// <summary>A loss that a host brings.</summary>
/// <param name="Name">What specs call it.</param>
/// <param name="Create">Makes it for a batch, on the device's thread.</param>
internal sealed record OwnLoss(string Name, Func<SampleLossRequest, SampleLoss> Create);

/// <summary>The losses that a host brings, by name.</summary>
internal sealed class OwnLosses
{
    private readonly Dictionary<string, OwnLoss> _losses;

    /// <exception cref="ArgumentException">Two have one name.</exception>
    public OwnLosses(IEnumerable<OwnLoss> losses)
    {
        _losses = [];
        foreach (var loss in losses)
            if (!_losses.TryAdd(loss.Name, loss))
                throw new ArgumentException($"Two losses are registered as '{loss.Name}'. Give each a name of its own.", nameof(losses));
    }

    /// <summary>None.</summary>
    public static OwnLosses None { get; } = new([]);

    /// <param name="name">What the spec calls it.</param>
    /// <param name="index">Its place in the spec.</param>
    /// <param name="request">What it is made for.</param>
    /// <exception cref="InvalidDataException">This host has no such loss, or made none.</exception>
    public SampleLoss Create(string name, int index, SampleLossRequest request) => _losses.TryGetValue(name, out var own)
        ? own.Create(request) ?? throw new InvalidDataException($"The factory of the loss '{name}' made none for losses[{index}].")
        : throw new InvalidDataException($"losses[{index}] asks for the loss '{name}', which this silo does not have. {(_losses.Count == 0 ? "It has none of its own" : $"Its own are {string.Join(", ", _losses.Keys.Order(StringComparer.Ordinal))}")}: register it with services.AddSampleLoss in the host of every silo (docs/losses.md).");
}
