using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Tests.Cluster;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Logging.Abstractions;

namespace AdjointDpm.Grains.Tests.Hosting;

public sealed class ExperimentWatchdogTests
{
    [Fact]
    public async Task ExperimentThatCannotBeWoken_DoesNotKeepOlderOnesAsleep()
    {
        var woken = new List<string>();
        var grains = FakeGrains.Of((type, key) => type == typeof(IExperimentDirectoryGrain)
            ? new Directory([Summary("newest", RunState.Running), Summary("broken", RunState.Running), Summary("ended", RunState.Succeeded), Summary("oldest", RunState.Paused)])
            : new Experiment(() => woken.Add(key == "broken" ? throw new InvalidDataException("its state cannot be read") : key)));
        await new ExperimentWatchdog(grains, null!, null!, TimeProvider.System, NullLogger<ExperimentWatchdog>.Instance).PokeAsync(TestContext.Current.CancellationToken);
        Assert.Equal(["newest", "oldest"], woken);
    }

    private static ExperimentSummary Summary(string id, RunState state) => new() { Id = id, Name = id, State = state, Trials = 1, TrialsEnded = 0, SubmittedAt = DateTimeOffset.UnixEpoch };

    private sealed class Directory(IReadOnlyList<ExperimentSummary> experiments) : IExperimentDirectoryGrain
    {
        public Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken = default) => Task.FromResult<IReadOnlyList<ExperimentSummary>>([.. experiments.Skip(skip).Take(take)]);

        public Task PutAsync(ExperimentSummary summary) => throw new NotSupportedException();
    }

    private sealed class Experiment(Action poked) : ITrialReportsGrain
    {
        public Task<int> ReportAsync(TrialReport report) => throw new NotSupportedException();

        public async Task<bool> PokeAsync()
        {
            await Task.Yield();
            poked();
            return true;
        }
    }
}
