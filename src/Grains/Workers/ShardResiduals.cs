using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Workers;

/// <summary>What encoded gradients left of each shard: held by the worker that computed it, for the one that computes the shard's next step; computed again when it is gone.</summary>
internal sealed partial class ShardResiduals(IDevices devices, TensorTransfer transfer, IDisk disk, Background background, TimeProvider time, ILogger logger)
{
    private readonly Dictionary<(string Trial, int Shard), List<(int Step, TensorReference Residual, DateTimeOffset Since)>> _held = [];

    public bool IsEmpty => _held.Count == 0;

    /// <summary>What the step before left of the shard; null when nothing was.</summary>
    public async Task<byte[]?> BeforeAsync(WorkAssignment assignment, string device, Func<IDisposable> begin, CancellationToken cancellationToken)
    {
        if (assignment.Residual is not { } wanted)
            return null;
        try
        {
            return await transfer.FetchAsync(wanted, cancellationToken);
        }
        catch (TensorTransferException e) when (assignment.Window is not null)
        {
            LogRecomputed(logger, assignment.Token, assignment.Window.Count, e.Message);
            return await RecomputeAsync(assignment, wanted, device, begin, cancellationToken);
        }
    }

    /// <summary>Holds what a step left, and what the one before it did, because that one is done again when it is not committed.</summary>
    public void Hold(ShardToken token, TensorReference residual)
    {
        var held = _held.TryGetValue((token.Trial, token.Shard), out var known) ? known : _held[(token.Trial, token.Shard)] = [];
        held.Add((token.Step, residual, time.GetUtcNow()));
        Drop(held, other => other.Step < token.Step - 1 || (other.Step == token.Step && other.Residual != residual));
    }

    /// <summary>Lets go of what has been held for so long that its trial has ended, or goes on elsewhere.</summary>
    public void Sweep(TimeSpan old)
    {
        var now = time.GetUtcNow();
        foreach (var (key, held) in _held.ToArray())
        {
            Drop(held, residual => now - residual.Since > old);
            if (held.Count == 0)
                _held.Remove(key);
        }
    }

    private void Drop(List<(int Step, TensorReference Residual, DateTimeOffset Since)> held, Predicate<(int Step, TensorReference Residual, DateTimeOffset Since)> which)
    {
        foreach (var (_, residual, _) in held.FindAll(which))
            transfer.Withdraw(residual);
        held.RemoveAll(which);
    }

    /// <summary>The shard's gradients of the window's steps once more, from the parameters that each began with.</summary>
    private async Task<byte[]?> RecomputeAsync(WorkAssignment assignment, TensorReference wanted, string device, Func<IDisposable> begin, CancellationToken cancellationToken)
    {
        var (token, window) = (assignment.Token, assignment.Window!);
        var files = new TrialFiles(disk, background, assignment.VersionFolder!, token.Epoch);
        byte[]? residual = null;
        for (var i = 0; i < window.Count; i++)
        {
            var parameters = new ParameterVersion(window[i], await files.TryReadAsync(window[i])
                ?? throw new TensorTransferException($"The parameters {window[i]} of step {token.Step - window.Count + i} are no longer there: the trial has gone on."));
            var (before, earlier) = (residual, assignment with { Token = token with { Step = token.Step - window.Count + i } });
            residual = await devices.RunAsync(device, ShardWork.TaskOf(earlier), begin, engine => ShardWork.Differentiate(engine, earlier, parameters, before, cancellationToken).Residual, cancellationToken);
        }
        return residual is not null && TensorReference.HashOf(residual) == wanted.Sha256
            ? residual
            : throw new TensorTransferException($"What the steps before left of shard {token.Shard} has other bits than were recorded ({wanted.Sha256}): this worker or one before it computes wrongly.");
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Token} begins with its shard's gradients of {Steps} steps before, because what they left is gone: {Reason}")]
    private static partial void LogRecomputed(ILogger logger, ShardToken token, int steps, string reason);
}
