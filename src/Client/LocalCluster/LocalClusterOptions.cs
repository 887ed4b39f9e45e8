using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Specs;
using Spectre.Console;

namespace AdjointDpm.Client.LocalCluster;

/// <summary>Silo processes on this machine.</summary>
internal sealed record LocalClusterOptions
{
    public required SiloCommand Command { get; init; }

    /// <summary>Number of processes.</summary>
    public required int Silos { get; init; }

    /// <summary>Data folder of the silos, absolute; logs go to <c>logs/</c> in it.</summary>
    public required string DataFolder { get; init; }

    /// <summary>Threads that each silo's math may use: part of the run's identity.</summary>
    public required int Threads { get; init; }

    /// <summary>Whether the silos' products are to have the same bits wherever their numbers lie in memory, as float64 needs.</summary>
    public bool Repeatable { get; init; }

    /// <summary>Silos that outlive this process. Default: they end with it.</summary>
    public bool Keep { get; init; }

    /// <summary>Silos that finish what is under way when this process ends without having stopped them, and end then. Default: they end at once.</summary>
    public bool Finish { get; init; }

    /// <summary>How often a silo that died is started again, each.</summary>
    public int MaxRestarts { get; init; } = 5;

    /// <summary>How long a silo may take to join.</summary>
    public TimeSpan ReadyWithin { get; init; } = TimeSpan.FromSeconds(90);

    /// <summary>How long a silo may take to stop before it is killed.</summary>
    public TimeSpan StopWithin { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>Pause before a silo is started again.</summary>
    public TimeSpan RestartAfter { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Told what people should know, such as restarts.</summary>
    public Action<string> Notice { get; set; } = _ => { };

    /// <summary>One silo for the time of a command, which tells its notices on the terminal.</summary>
    public static LocalClusterOptions OneSilo(ClientContext context, string dataFolder, ExperimentSpec spec) => new()
    {
        Command = SiloCommand.Find(context.Variable, context.ProgramFolder),
        Silos = 1,
        DataFolder = dataFolder,
        Threads = spec.Resources.Threads,
        Repeatable = NeedsRepeatable(spec),
        Notice = text => context.Terminal.Note(Markup.Escape(text)),
    };

    /// <summary>Environment variable of a silo whose math library repeats products bit for bit.</summary>
    public const string RepeatableVariable = "ADJOINTDPM_REPEATABLE";

    public static bool NeedsRepeatable(ExperimentSpec spec) => spec.Model.Dtype == NumberFormat.Float64;
}

/// <summary>A cluster on this machine.</summary>
internal interface ILocalCluster : IAsyncDisposable
{
    IReadOnlyList<int> ProcessIds { get; }

    /// <summary>Port of the pages for a browser, once all silos have started; null when none says it.</summary>
    int? HttpPort { get; }

    /// <summary>Ends in failure when no silo is left that could go on; never otherwise.</summary>
    Task Lost { get; }

    /// <summary>Starts all silos and waits until each has joined.</summary>
    Task StartAsync(CancellationToken cancellationToken);

    /// <summary>From now on nothing here stops them: they finish what is under way and end, or stay when they are kept.</summary>
    void Leave();

    /// <summary>Ends all silos at once, without a word.</summary>
    void Kill();
}
