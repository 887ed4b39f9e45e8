using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Telemetry;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Workers;

/// <summary>The newest messages of one silo's log. Key: <c>{silo}/log</c>.</summary>
[Alias("adjointdpm.ISiloLogGrain")]
internal interface ISiloLogGrain : IGrainWithStringKey
{
    [Alias("Read")]
    Task<IReadOnlyList<SiloMessage>> ReadAsync(long after, int most);

    static string KeyOf(string silo) => silo + "/log";
}

[NamedSiloPlacement]
internal sealed class SiloLogGrain(RecentLog log) : Grain, ISiloLogGrain
{
    private const int Most = 1000;

    public Task<IReadOnlyList<SiloMessage>> ReadAsync(long after, int most)
    {
        var key = this.GetPrimaryKeyString();
        var silo = key[..key.LastIndexOf('/')];
        return Task.FromResult<IReadOnlyList<SiloMessage>>([.. log.After(after, Math.Clamp(most, 0, Most)).Select(message => new SiloMessage(silo, message.Number, message.Time, LevelOf(message.Level), message.Text))]);
    }

    // As the console writes them.
    private static string LevelOf(LogLevel level) => level switch
    {
        LogLevel.Warning => "warn",
        LogLevel.Error => "fail",
        LogLevel.Critical => "crit",
        _ => "info",
    };
}
