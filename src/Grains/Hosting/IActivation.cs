namespace AdjointDpm.Grains.Hosting;

/// <summary>What the logic of a grain asks of the activation that it lives in. The runtime's own in a silo; a simulated one in tests.</summary>
internal interface IActivation
{
    string Key { get; }

    IGrainFactory Grains { get; }

    /// <summary>Calls back between other turns of the activation, and keeps it from being collected, until disposed.</summary>
    IDisposable Every(TimeSpan due, TimeSpan period, Func<Task> tick);

    /// <summary>Ends the activation when it is idle; the next call makes another.</summary>
    void Deactivate();
}

internal sealed class GrainActivation(Grain grain, IGrainFactory grains) : IActivation
{
    public string Key => ((IGrainBase)grain).GrainContext.GrainId.Key.ToString()!;

    public IGrainFactory Grains => grains;

    public IDisposable Every(TimeSpan due, TimeSpan period, Func<Task> tick) =>
        grain.RegisterGrainTimer(tick, new GrainTimerCreationOptions(due, period) { KeepAlive = true, Interleave = true });

    public void Deactivate() => ((IGrainBase)grain).DeactivateOnIdle();
}
