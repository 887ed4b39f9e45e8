using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Tests.Commands;

public sealed class RunCommandTests : IDisposable
{
    private readonly Adpm _adpm = new();
    private readonly string _spec;
    private string _id = "";

    public RunCommandTests()
    {
        _spec = SpecFiles.Write(_adpm.Folder);
        var silo = Path.Combine(_adpm.Folder, "bin", "silo");
        Directory.CreateDirectory(silo);
        File.WriteAllText(Path.Combine(silo, "AdjointDpm.Silo.dll"), "");
        _adpm.Cluster.OnSubmit = (id, _) => Samples.Running(_id = id) with { Sequence = 0 };
    }

    public void Dispose() => _adpm.Dispose();

    [Fact]
    public async Task Run_ToTheEnd_PrintsTableAndFiles()
    {
        End();
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec} --silos 2 --output out"));
        Verified.Equal(_adpm.Text("run stylize.yaml --silos 2 --output out", 0).Replace(_id, "ID"), "run");
        var silos = Assert.Single(_adpm.Silos);
        Assert.Equal((true, true, 2, 1, Path.Combine(_adpm.Folder, "out")), (silos.Started, silos.Stopped, silos.Options.Silos, silos.Options.Threads, silos.Options.DataFolder));
        Assert.Equal(Path.Combine(_adpm.Folder, "bin", "silo", "AdjointDpm.Silo.dll"), silos.Options.Command.File);
        Assert.False(File.Exists(Path.Combine(_adpm.Folder, "out", "adpm.lock")));
    }

    [Fact]
    public async Task Run_ResultsInABucket_PrintsTheirAddresses()
    {
        var place = "s3://results/team/experiments/";
        End(ended => ended with { ArtifactFolder = place + _id, Trials = [.. ended.Trials.Select(trial => trial with { ArtifactFolder = $"{place}{_id}/trial-{trial.Index}" })] });
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec} --output out"));
        Assert.Contains($"Best trial        {place}{_id}/trial-1\nReport            {place}{_id}/report.json\nWall time", _adpm.Out.ToString());
    }

    [Fact]
    public async Task Run_Json_PrintsOneDocument()
    {
        End();
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec} --json"));
        using var json = JsonDocument.Parse(_adpm.Out.ToString());
        Assert.Equal("adjointdpm.dev/experiment/v1", json.RootElement.GetProperty("schema").GetString());
        Assert.Equal("succeeded", json.RootElement.GetProperty("experiment").GetProperty("state").GetString());
    }

    [Theory]
    [InlineData("")]
    [InlineData(" --json")]
    public async Task Run_WritesThePage_WhateverItPrints(string json)
    {
        End(record: ReportCommandTests.Report("stylize", 3).ToJsonString());
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec} --output out{json}"));
        Assert.True(File.Exists(Path.Combine(_adpm.Folder, "out", "experiments", _id, "report.html")));
    }

    [Fact]
    public async Task Run_Again_ReturnsTheFinishedResult()
    {
        End();
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec}"));
        _adpm.Error.GetStringBuilder().Clear();
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec}"));
        Assert.Contains("This experiment has succeeded before; nothing is computed again.", _adpm.Error.ToString());
        Assert.DoesNotContain("step 1/20", _adpm.Error.ToString());
    }

    [Fact]
    public async Task Run_BesideWhatTheFolderHoldsUnfinished_SaysSo()
    {
        _adpm.Cluster.Experiments["other-01234567"] = Samples.Running("other-01234567");
        _adpm.Cluster.Experiments["rests-01234567"] = Samples.Running("rests-01234567") with { Summary = Samples.Running("rests-01234567").Summary with { State = RunState.Paused } };
        _adpm.Cluster.Experiments["old-01234567"] = Samples.Ended("old-01234567");
        End();
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec} --output out"));
        Assert.Contains("1 other experiment in out goes on beside it: other-01234567. To end one: adpm cancel other-01234567 --data out\n", _adpm.Error.ToString());
    }

    [Fact]
    public async Task Run_Keep_SaysHowToAskAndStop()
    {
        End();
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec} --keep"));
        Assert.Contains($"adpm show {_id} --data runs\nStop them with: kill 101 102\n", _adpm.Error.ToString());
        Assert.True(_adpm.Silos[0].Options.Keep);
    }

    [Fact]
    public async Task Run_FirstInterruption_StopsTheSilosAndSaysHowToGoOn()
    {
        var running = _adpm.RunAsync($"run {_spec} --silos 2");
        _adpm.Interruptions.Interrupt();
        Assert.Equal(ExitCodes.Interrupted, await running);
        Assert.Equal((true, false, null), (_adpm.Silos[0].Stopped, _adpm.Silos[0].Killed, _adpm.Exited));
        Assert.EndsWith($"Stopping. Once more to kill.\nStopped; what was done is kept in runs. Go on with the same command: adpm run {_spec} --silos 2\n", _adpm.Error.ToString());
    }

    [Fact]
    public async Task Run_TerminalCloses_LeavesTheSilosAndSaysNothing()
    {
        var running = _adpm.RunAsync($"run {_spec} --silos 2");
        _adpm.Interruptions.HangUp();
        Assert.Equal(ExitCodes.Interrupted, await running);
        Assert.Equal((true, false, true), (_adpm.Silos[0].Left, _adpm.Silos[0].Killed, _adpm.Silos[0].Options.Finish));
        Assert.DoesNotContain("Stop", _adpm.Error.ToString(), StringComparison.Ordinal);
        Assert.Null(_adpm.Exited);
    }

    [Fact]
    public async Task Run_Detached_ReturnsOnceItHasBegun()
    {
        Assert.Equal(0, await _adpm.RunAsync($"run {_spec} --silos 2 --detach -o out"));
        Assert.True(_adpm.Silos[0].Left);
        Verified.Equal(_adpm.Text("run stylize.yaml --silos 2 --detach -o out", 0).Replace(_id, "ID"), "run-detach");
    }

    [Fact]
    public async Task Run_SecondInterruption_Kills()
    {
        var running = _adpm.RunAsync($"run {_spec}");
        var silos = _adpm.Silos[0];
        silos.BeforeStop = () =>
        {
            _adpm.Interruptions.Interrupt();
            return Task.CompletedTask;
        };
        _adpm.Interruptions.Interrupt();
        await running;
        Assert.Equal((true, ExitCodes.Interrupted), (silos.Killed, _adpm.Exited));
    }

    [Fact]
    public async Task Run_AllSilosLost_Exits1AndSaysWhy()
    {
        var running = _adpm.RunAsync($"run {_spec}");
        _adpm.Silos[0].LostSource.SetException(new CommandFailure(ExitCodes.Failed, "No silo is left.", "The end of the log …"));
        Assert.Equal(ExitCodes.Failed, await running);
        Assert.EndsWith("error: No silo is left.\nThe end of the log …\n", _adpm.Error.ToString());
        Assert.True(_adpm.Silos[0].Stopped);
    }

    [Fact]
    public async Task Run_FolderInUse_IsRefused()
    {
        var first = _adpm.RunAsync($"run {_spec}");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync($"run {_spec}"));
        Assert.Contains("error: The output folder 'runs' is in use by another 'adpm run'", _adpm.Error.ToString());
        _adpm.Interruptions.Interrupt();
        await first;
    }

    [Fact]
    public async Task Run_NoSilo_SaysWhereItLooked()
    {
        File.Delete(Path.Combine(_adpm.Folder, "bin", "silo", "AdjointDpm.Silo.dll"));
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync($"run {_spec}"));
        Assert.Contains("error: The silo was not found. Looked for 'FOLDER/bin/silo/AdjointDpm.Silo.dll'", _adpm.Clean(_adpm.Error.ToString()));
    }

    private void End(Func<ExperimentSnapshot, ExperimentSnapshot>? change = null, string record = "")
    {
        _adpm.Cluster.Events.AddRange(Samples.Events());
        _adpm.Cluster.BeforeEvent = happened =>
        {
            if (happened.Kind != EventKind.ExperimentEnded) return;
            var folder = Path.Combine(_adpm.Folder, "out", "experiments", _id);
            foreach (var file in new[] { "trial-1/before-after.png", "trial-1/loss.svg", "trial-1/model/config.json", "report.json" })
            {
                Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(folder, file))!);
                File.WriteAllText(Path.Combine(folder, file), "");
            }

            File.WriteAllText(Path.Combine(folder, "report.json"), record);
            _adpm.Cluster.Experiments[_id] = (change ?? (ended => ended))(Samples.Ended(_id, folder));
            _adpm.Time.Advance(TimeSpan.FromSeconds(95));
        };
    }
}
