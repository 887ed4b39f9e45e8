using System.Globalization;
using System.IO.Enumeration;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>What of a network is trained: which numbers, in which order, and how their gradient comes from a solve's.</summary>
internal abstract class TrainedPart : IDisposable
{
    /// <summary>Trained tensors, in the order of their numbers in blobs.</summary>
    public abstract IReadOnlyList<Tensor> Values { get; }

    /// <summary>Declares what a solve must differentiate by.</summary>
    public abstract NoiseField Declare(NoiseField field);

    /// <summary>Puts changed values into effect.</summary>
    public abstract void Apply();

    /// <summary>Gradients of <see cref="Values"/> from those of a solve, in the current dispose scope.</summary>
    /// <param name="solved">The solve of a shard's samples, or of some of them.</param>
    /// <param name="batch">Which samples these are.</param>
    public abstract IReadOnlyList<Tensor> Gradients(ShardSolve solved, ShardSamples batch);

    /// <summary>Brings what was trained of the network's weights to one of the same kind as it was before, unrounded.</summary>
    /// <param name="network">In float32.</param>
    /// <param name="version">The version that is in use.</param>
    public virtual void BringTo(nn.Module network, ParameterVersion version)
    {
    }

    /// <summary>Whether the network's weights are other ones after training, so that it is worth writing.</summary>
    public virtual bool ChangesModel => true;

    /// <summary>Writes what belongs beside the tuned network.</summary>
    public abstract void SaveBeside(string folder, SampledModel model, ExperimentSpec spec);

    public abstract void Dispose();

    public static TrainedPart Of(SampledModel model, ExperimentSpec experiment, ScalarType dtype, Device device)
    {
        var (network, spec, seed) = (model.Network, experiment.Train, experiment.Training.Seed);
        switch (spec.Target)
        {
            case TrainTarget.Noise:
                return new NoisePart(experiment, model.Shape(1), dtype, device);
            case TrainTarget.Condition:
                return new ConditionPart(model.Conditioning(experiment), spec.Positions);
            case TrainTarget.None:
                return new NothingPart();
        }
        bool Matches(string name) => spec.Include.Any(pattern => FileSystemName.MatchesSimpleExpression(pattern, name, ignoreCase: false));
        try
        {
            return spec.Target == TrainTarget.Lora
                ? new LoraPart(Begun(new Lora(network, Matches, spec.Rank, spec.Alpha, (ulong)seed), model, spec.From))
                : new WeightsPart([.. network.named_parameters().Where(p => Matches(p.name)).Select(p => (p.name, (Tensor)p.parameter))]);
        }
        catch (ArgumentException e)
        {
            var names = network.named_parameters().Select(p => p.name).ToList();
            throw new InvalidDataException($"train.include ({string.Join(", ", spec.Include)}) selects nothing to train. The model has {names.Count} parameters, such as {string.Join(", ", names.Take(3))}.", e);
        }
    }

    private static Lora Begun(Lora lora, SampledModel model, string? from)
    {
        if (from is null)
            return lora;
        try
        {
            using var known = model.ReadLora(from);
            lora.CopyFrom(known.Layers);
            return lora;
        }
        catch (ArgumentException e)
        {
            lora.Dispose();
            throw new InvalidDataException($"train.from: '{from}' cannot be gone on with. {e.Message}", e);
        }
        catch
        {
            lora.Dispose();
            throw;
        }
    }

    /// <summary>Nothing is trained: one number stands for it, so that the rest of a trial goes on as ever.</summary>
    private sealed class NothingPart : TrainedPart
    {
        private readonly Tensor _one = zeros(1).DetachFromDisposeScope();

        public override IReadOnlyList<Tensor> Values => [_one];

        public override bool ChangesModel => false;

        public override NoiseField Declare(NoiseField field) => field;

        public override void Apply()
        {
        }

        public override IReadOnlyList<Tensor> Gradients(ShardSolve solved, ShardSamples batch) => [zeros(1)];

        public override void SaveBeside(string folder, SampledModel model, ExperimentSpec spec)
        {
        }

        public override void Dispose() => _one.Dispose();
    }

    private sealed class WeightsPart : TrainedPart
    {
        private readonly IReadOnlyList<(string Name, Tensor Value)> _weights;

        public WeightsPart(IReadOnlyList<(string Name, Tensor Value)> weights)
        {
            if (weights.Count == 0)
                throw new ArgumentException("No parameter matches.", nameof(weights));
            _weights = weights;
        }

        public override IReadOnlyList<Tensor> Values => [.. _weights.Select(weight => weight.Value)];

        public override NoiseField Declare(NoiseField field) => _weights.Aggregate(field, (f, weight) => f.With(weight.Name, weight.Value));

        public override void Apply()
        {
        }

        public override void BringTo(nn.Module network, ParameterVersion version)
        {
            var weights = network.state_dict();
            TorchBytes.Write(version.Bytes.Span, [.. _weights.Select(weight => weights[weight.Name])]);
        }

        public override IReadOnlyList<Tensor> Gradients(ShardSolve solved, ShardSamples batch) => [.. _weights.Select(weight => solved.Inputs[weight.Name])];

        public override void SaveBeside(string folder, SampledModel model, ExperimentSpec spec)
        {
        }

        public override void Dispose()
        {
        }
    }

    private sealed class LoraPart(Lora lora) : TrainedPart
    {
        public override IReadOnlyList<Tensor> Values => [.. lora.Parameters.Select(parameter => parameter.Value)];

        public override NoiseField Declare(NoiseField field) => lora.WeightNames.Zip(lora.Weights).Aggregate(field, (f, weight) => f.With(weight.First, weight.Second));

        public override void BringTo(nn.Module network, ParameterVersion version) => lora.AddTo(network);

        public override void Apply() => lora.Fold();

        public override IReadOnlyList<Tensor> Gradients(ShardSolve solved, ShardSamples batch) => lora.Gradients([.. lora.WeightNames.Select(name => solved.Inputs[name])]);

        public override void SaveBeside(string folder, SampledModel model, ExperimentSpec spec) => model.SaveLora(lora, Path.Combine(folder, "lora"), new Dictionary<string, string>
        {
            // What interfaces show of a file, by sd-scripts' names.
            ["ss_sd_model_name"] = Path.GetFileName(Path.TrimEndingDirectorySeparator(spec.Model.Path)),
            ["ss_seed"] = spec.Training.Seed.ToString(CultureInfo.InvariantCulture),
            ["ss_steps"] = spec.Training.Steps.ToString(CultureInfo.InvariantCulture),
            ["ss_learning_rate"] = spec.Optimizer.LearningRate.ToString("R", CultureInfo.InvariantCulture),
            ["ss_optimizer"] = spec.Optimizer.Name.ToString(),
        });

        public override void Dispose() => lora.Dispose();
    }
}
