using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Tests.Commands;

public sealed class CommandTests : IDisposable
{
    private const string Id = "stylize-0a1b2c3d";

    private readonly Adpm _adpm = new();

    public void Dispose() => _adpm.Dispose();

    [Theory]
    [InlineData("--help", "root")]
    [InlineData("demo --help", "demo")]
    [InlineData("run --help", "run")]
    [InlineData("submit --help", "submit")]
    [InlineData("watch --help", "watch")]
    [InlineData("ls --help", "ls")]
    [InlineData("show --help", "show")]
    [InlineData("trials --help", "trials")]
    [InlineData("events --help", "events")]
    [InlineData("logs --help", "logs")]
    [InlineData("diff --help", "diff")]
    [InlineData("grid --help", "grid")]
    [InlineData("top --help", "top")]
    [InlineData("pause --help", "pause")]
    [InlineData("resume --help", "resume")]
    [InlineData("cancel --help", "cancel")]
    [InlineData("retry --help", "retry")]
    [InlineData("edit --help", "edit")]
    [InlineData("import --help", "import")]
    [InlineData("report --help", "report")]
    [InlineData("replay --help", "replay")]
    [InlineData("audit --help", "audit")]
    [InlineData("models --help", "models")]
    [InlineData("certificates --help", "certificates")]
    [InlineData("users --help", "users")]
    [InlineData("users add --help", "users-add")]
    [InlineData("doctor --help", "doctor")]
    [InlineData("check --help", "check")]
    [InlineData("check-reward --help", "check-reward")]
    [InlineData("init --help", "init")]
    [InlineData("inspect --help", "inspect")]
    [InlineData("convert --help", "convert")]
    [InlineData("sample --help", "sample")]
    [InlineData("score --help", "score")]
    [InlineData("plan --help", "plan")]
    [InlineData("models ls --help", "models-ls")]
    [InlineData("pull --help", "pull")]
    [InlineData("config --help", "config")]
    [InlineData("schema --help", "schema")]
    [InlineData("completion --help", "completion")]
    [InlineData("workers --help", "workers")]
    [InlineData("workers cordon --help", "workers-cordon")]
    [InlineData("workers uncordon --help", "workers-uncordon")]
    [InlineData("workers drain --help", "workers-drain")]
    public async Task Help_ReadsWell(string line, string name)
    {
        Assert.Equal(0, await _adpm.RunAsync(line));
        Verified.Equal(_adpm.Out.ToString().Replace("testhost", "adpm").Replace("AdjointDpm.Client.Tests", "adpm"), $"help-{name}");
    }

    /// <summary>Only the command that is named is built: by the name that it has.</summary>
    [Fact]
    public async Task EveryCommand_IsFoundByItsName()
    {
        foreach (var (name, _) in AdpmCommandLine.Commands)
        {
            Assert.Equal(0, await _adpm.RunAsync($"{name} --help"));
            Assert.Matches($@"Usage:\n  \S+ {name}( |\n)", _adpm.Out.ToString());
            _adpm.Out.GetStringBuilder().Clear();
        }
    }

    [Fact]
    public async Task NoCommand_PrintsHelp()
    {
        Assert.Equal(0, await _adpm.RunAsync(""));
        Assert.Contains("Usage:", _adpm.Out.ToString());
    }

    [Theory]
    [InlineData("frobnicate", "'frobnicate' is not a command.")]
    [InlineData("show", "Required argument 'ID[/TRIAL]' missing for command: 'show'.")]
    [InlineData("run x.yaml --silos 0", "--silos must be from 1 to 64.")]
    [InlineData("run x.yaml --silos many", "Cannot parse argument 'many'")]
    [InlineData("ls --limit 0", "--limit must be from 1 to 10000.")]
    [InlineData("ls --gateway here", "--gateway: 'here' is not host:port. Write it like 127.0.0.1:30000")]
    [InlineData("ls --gateway ::1:99", "--gateway: '::1:99' is not host:port.")]
    [InlineData("ls --data nowhere", "--data: there is no folder 'nowhere'.")]
    public async Task WrongUsage_Exits2(string line, string expected)
    {
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync(line));
        Assert.Contains(expected, _adpm.Error.ToString().Replace('\n', ' '));
        Assert.Empty(_adpm.Out.ToString());
    }

    [Fact]
    public async Task Ls_Table()
    {
        foreach (var summary in new[]
        {
            Samples.Summary("stylize-0a1b2c3d", RunState.Running, 12, 3, 7), Samples.Summary("audit-ffffffff", RunState.Failed, 1, 1, 90, 70), Samples.Summary("a-rather-long-name-00000000", RunState.Succeeded, 100, 100, 3000, 2000),
        })
            _adpm.Cluster.Experiments[summary.Id] = Samples.Ended() with { Summary = summary };
        await Verify("ls", 0, "ls");
    }

    [Fact]
    public Task Ls_Empty_SaysWhatToDo() => Verify("ls", 0, "ls-empty");

    [Fact]
    public async Task Ls_Json()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended();
        await Verify("ls --json", 0, "ls-json");
    }

    [Fact]
    public async Task Show_Table()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended();
        await Verify("show stylize", 0, "show");
    }

    [Fact]
    public async Task Show_ResultsInABucket_AreTheirAddress()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended(folder: $"s3://results/experiments/{Id}");
        Assert.Equal(0, await _adpm.RunAsync($"show {Id}"));
        Assert.EndsWith($"Artefacts: s3://results/experiments/{Id}\n", _adpm.Out.ToString());
    }

    [Fact]
    public async Task Show_Running()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running();
        await Verify($"show {Id}", 0, "show-running");
    }

    [Fact]
    public async Task Show_Json()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running();
        await Verify($"show {Id} --json", 0, "show-json");
    }

    [Fact]
    public async Task Show_JsonOfNaN_IsStillJson()
    {
        var running = Samples.Running();
        _adpm.Cluster.Experiments[Id] = running with { Trials = [running.Trials[1] with { LossHistory = [1, double.NaN, double.PositiveInfinity] }] };
        Assert.Equal(0, await _adpm.RunAsync($"show {Id} --json"));
        using var json = JsonDocument.Parse(_adpm.Out.ToString());
        Assert.Equal("NaN", json.RootElement.GetProperty("trials")[0].GetProperty("lossHistory")[1].GetString());
    }

    [Fact]
    public async Task Show_UnknownAndAmbiguous_AreTold()
    {
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("show x"));
        foreach (var id in new[] { "a-00000000", "a-11111111" }) _adpm.Cluster.Experiments[id] = Samples.Ended(id);
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("show x"));
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("show a"));
        Assert.Equal(
            "error: There is no experiment 'x'.\nThe cluster has none yet.\nerror: There is no experiment 'x'.\nList them with 'adpm ls'.\nerror: 'a' could be any of a-00000000, a-11111111.\nWrite more of the id.\n",
            _adpm.Error.ToString());
    }

    [Fact]
    public async Task Name_BeatsTheBeginningOfOthers_AndIsFoundHoweverOld()
    {
        foreach (var id in Enumerable.Range(0, 2500).Select(i => $"digits-{i:x8}").Append("digits-two-00000001").Append("old-0a1b2c3d"))
            _adpm.Cluster.Experiments[id] = Samples.Ended(id);
        _adpm.Cluster.Experiments["digits-ffffffff"] = Samples.Ended("digits-ffffffff");
        Assert.Equal(0, await _adpm.RunAsync("show old"));
        Assert.Equal(0, await _adpm.RunAsync("show digits-two"));
        Assert.Equal(0, await _adpm.RunAsync("show digits-ff"));
        Assert.Equal(["old-0a1b2c3d", "digits-two-00000001", "digits-ffffffff"], _adpm.Out.ToString().Split('\n').Where(line => line.Contains("submitted", StringComparison.Ordinal)).Select(line => line.Split(' ')[0]));
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("show digits"));
        Assert.EndsWith("error: 'digits' could be any of digits-00000000, digits-00000001, digits-00000002, digits-00000003, digits-00000004, ….\nWrite more of the id.\n", _adpm.Error.ToString(), StringComparison.Ordinal);
        _adpm.Cluster.Experiments.Clear();
        foreach (var id in new[] { "demo-00000000", "demo-two-00000000" }) _adpm.Cluster.Experiments[id] = Samples.Ended(id);
        _adpm.Out.GetStringBuilder().Clear();
        Assert.Equal(0, await _adpm.RunAsync("show demo"));
        Assert.StartsWith("demo-00000000  ", _adpm.Out.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Audit_ThatHolds()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended();
        _adpm.Cluster.Audits.Add(Samples.Audit($"{Id}/0"));
        await Verify("audit stylize --gateway 127.0.0.1:1", 0, "audit");
    }

    [Fact]
    public async Task Audit_ThatDoesNotHold_NamesTheFirstViolation_AndExitsWith1()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended();
        _adpm.Cluster.Audits.Add(Samples.Audit($"{Id}/0", "Step 3, shard 1: no contribution counted instead of one."));
        await Verify($"audit {Id} --gateway 127.0.0.1:1 --json", 1, "audit-json");
    }

    [Fact]
    public async Task Audit_OfAFolder_NeedsNoCluster()
    {
        Directory.CreateDirectory(Path.Combine(_adpm.Folder, "runs", "trials", Id, "0"));
        Assert.Equal(ExitCodes.Ok, await _adpm.RunAsync("audit stylize --data runs"));
        Assert.Empty(_adpm.Connected);
        Assert.Contains($"{Id}/0  0 of 0 steps", _adpm.Out.ToString(), StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("audit other --data runs"));
    }

    [Fact]
    public async Task Replay_SaysWhatWasRecomputed()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended();
        _adpm.Cluster.Replays.Enqueue(Samples.Replay(ReplayState.Equal));
        await Verify("replay stylize/0@5 --gateway 127.0.0.1:1", 0, "replay");
    }

    [Fact]
    public async Task Replay_ThatDiffers_SaysWhere_AndExitsWith1()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended();
        _adpm.Cluster.Replays.Enqueue(Samples.Replay(ReplayState.Different, "step 5, shard 1: the contents by silo-1/cpu:0: SHA-256 bb instead of aa by silo-0/cpu:0"));
        await Verify($"replay {Id}/0@5 --gateway 127.0.0.1:1 --json", 1, "replay-json");
        _adpm.Cluster.Replays.Enqueue(Samples.Replay(ReplayState.Failed));
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync($"replay {Id}/0@99 --gateway 127.0.0.1:1"));
        Assert.Contains("Name one from 1 to 20.", _adpm.Out.ToString(), StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync($"replay {Id}@5 --gateway 127.0.0.1:1"));
    }

    [Theory]
    [InlineData("pause {0}", ControlVerb.Pause, null, "")]
    [InlineData("pause {0}/2", ControlVerb.Pause, 2, "")]
    [InlineData("resume styl", ControlVerb.Resume, null, "")]
    [InlineData("retry {0}/0", ControlVerb.Retry, 0, "")]
    [InlineData("edit {0} --set maxTrials=40 --set parameters.optimizer.learningRate.max=1e-3", ControlVerb.Edit, null, "maxTrials 40, parameters.optimizer.learningRate.max 1e-3")]
    public async Task Control_AsksForWhatWasMeant(string line, ControlVerb verb, int? trial, string settings)
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running();
        Assert.Equal(0, await _adpm.RunAsync(string.Format(System.Globalization.CultureInfo.InvariantCulture, line, Id)));
        var (id, control) = Assert.Single(_adpm.Cluster.Controls);
        Assert.Equal((Id, verb, trial, settings), (id, control.Verb, control.Trial, string.Join(", ", control.Settings.Select(setting => $"{setting.Key} {setting.Value}"))));
    }

    [Theory]
    [InlineData("pause {0}/x", 2, "names no trial")]
    [InlineData("pause /3", 2, "names no trial")]
    [InlineData("pause {0}/-1", 2, "names no trial")]
    [InlineData("retry {0}/99", 1, "has no trial 99")]
    [InlineData("resume nothing", 1, "There is no experiment 'nothing'")]
    [InlineData("edit {0}", 2, "--set")]
    [InlineData("edit {0} --set maxTrials", 2, "is not path=value")]
    [InlineData("edit {0} --set =3", 2, "is not path=value")]
    public async Task Control_OfNothing_IsASentence(string line, int exitCode, string message)
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running();
        Assert.Equal(exitCode, await _adpm.RunAsync(string.Format(System.Globalization.CultureInfo.InvariantCulture, line, Id)));
        Assert.Contains(message, _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Cancel_RunningAndEnded()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running();
        Assert.Equal(0, await _adpm.RunAsync($"cancel {Id}"));
        _adpm.Cluster.Experiments[Id] = Samples.Ended();
        Assert.Equal(0, await _adpm.RunAsync($"cancel {Id}"));
        Assert.Equal(0, await _adpm.RunAsync($"cancel {Id} --json"));
        Assert.Equal(0, await _adpm.RunAsync($"cancel {Id}/3"));
        Assert.Equal([(Id, null), (Id, null), (Id, null), (Id, 3)], _adpm.Cluster.Controls.Select(one => (one.Id, one.Control.Trial)));
        Verified.Equal(_adpm.Out.ToString(), "cancel");
    }

    [Fact]
    public async Task Unreachable_Exits3()
    {
        _adpm.Unreachable = new ClusterUnreachableException("No cluster answers. 127.0.0.1:30000: Connection refused.");
        await Verify("ls --json", ExitCodes.Unreachable, "unreachable");
    }

    [Fact]
    public async Task Target_PrecedenceIsGatewayDataVariableFolderDefault()
    {
        await _adpm.RunAsync("ls");
        Directory.CreateDirectory(Path.Combine(_adpm.Folder, "runs", "cluster", "adjointdpm"));
        await File.WriteAllTextAsync(Path.Combine(_adpm.Folder, "runs", "cluster", "adjointdpm", "membership.json"), "{}", TestContext.Current.CancellationToken);
        await _adpm.RunAsync("ls");
        _adpm.Variables["ADPM_GATEWAY"] = "a:1, b:2";
        await _adpm.RunAsync("ls");
        await _adpm.RunAsync("ls --data runs");
        await _adpm.RunAsync("ls --data runs --gateway [::1]:5 --gateway c:6");
        Assert.Equal(["127.0.0.1:30000", "FOLDER/runs", "a:1, b:2", "FOLDER/runs", "::1:5, c:6"], _adpm.Connected.Select(target => _adpm.Clean(target.ToString())));
        Assert.Equal(["", "", "", " --data runs", " --gateway [::1]:5 --gateway c:6"], _adpm.Connected.Select(target => target.Options));
    }

    [Fact]
    public async Task Watch_Plain_IsALineAnEvent()
    {
        Follow();
        await Verify($"watch {Id}", 0, "watch");
    }

    [Fact]
    public async Task Watch_Json_IsALineAnEvent()
    {
        Follow();
        Assert.Equal(0, await _adpm.RunAsync($"watch {Id} --json"));
        var lines = _adpm.Out.ToString().TrimEnd().Split('\n');
        Assert.Equal(8, lines.Length);
        Assert.All(lines.SkipLast(1), line => Assert.StartsWith("{\"schema\":\"adjointdpm.dev/event/v1\",\"sequence\":", line));
        Assert.StartsWith("{\"schema\":\"adjointdpm.dev/experiment/v1\",", lines[^1]);
    }

    [Fact]
    public async Task Watch_LostConnection_GoesOnAfterTheLastEvent()
    {
        Follow();
        var broken = 0;
        _adpm.Cluster.BeforeEvent = happened =>
        {
            if (happened.Sequence == 5 && broken++ == 0) throw new ClusterUnreachableException("The cluster at x stopped to answer.");
            EndWith(happened);
        };
        var running = _adpm.RunAsync($"watch {Id}");
        // The clock stands still until the connection is lost, and then moves too slowly for patience to run out.
        while (!running.IsCompleted)
        {
            if (Volatile.Read(ref broken) > 0) _adpm.Time.Advance(TimeSpan.FromMilliseconds(20));
            await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System, TestContext.Current.CancellationToken);
        }

        Assert.Equal(0, await running);
        var text = _adpm.Error.ToString();
        Assert.Contains("The cluster at x stopped to answer. Trying again.\nThe cluster answers again.\n", text);
        Assert.Equal(7, text.Split('\n').Count(line => line.StartsWith("12:00:0", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Watch_ClusterGoneForGood_Exits3()
    {
        Follow();
        _adpm.Cluster.Gone = true;
        var running = _adpm.RunAsync($"submit {Spec()} --watch");
        while (!running.IsCompleted)
        {
            _adpm.Time.Advance(TimeSpan.FromSeconds(30));
            await Task.Yield();
        }

        Assert.Equal(ExitCodes.Unreachable, await running);
        Assert.EndsWith($"Pick it up again with: adpm watch {Assert.Single(_adpm.Cluster.Experiments.Keys.Except([Id]))}\n", _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Watch_Interrupted_Exits130AndSaysHowToGoOn()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running();
        var running = _adpm.RunAsync($"watch {Id} --gateway a:1");
        _adpm.Interruptions.Interrupt();
        Assert.Equal(ExitCodes.Interrupted, await running);
        Assert.Equal($"The experiment goes on. Follow it again with: adpm watch {Id} --gateway a:1\n", _adpm.Error.ToString());
        Assert.Null(_adpm.Exited);
    }

    [Fact]
    public async Task Watch_FailedExperiment_Exits1()
    {
        var ended = Samples.Ended();
        _adpm.Cluster.Experiments[Id] = ended with { Summary = ended.Summary with { State = RunState.Failed }, Reason = "2 of 3 trials failed.", BestTrial = null };
        _adpm.Cluster.Events.AddRange(Samples.Events());
        await Verify($"watch {Id}", ExitCodes.Failed, "watch-failed");
    }

    [Fact]
    public async Task Submit_PrintsWhatComesNext()
    {
        _adpm.Cluster.OnSubmit = (id, _) => Samples.Running(id);
        var spec = Spec();
        Assert.Equal(0, await _adpm.RunAsync($"submit {spec} --gateway a:1 --paths-on-silos false"));
        // A script reads the result alone.
        Assert.Equal($"{Assert.Single(_adpm.Cluster.Experiments.Keys)}: 3 trials\n", _adpm.Out.ToString());
        Assert.EndsWith($"Next:\n  adpm watch {_adpm.Cluster.Experiments.Keys.Single()} --gateway a:1\n", _adpm.Error.ToString().Split("  adpm show")[0], StringComparison.Ordinal);
        Assert.Equal(0, await _adpm.RunAsync($"submit {spec} --json"));
        var id = Assert.Single(_adpm.Cluster.Experiments.Keys);
        Assert.Matches("^stylize-[0-9a-f]{8}$", id);
        Verified.Equal(_adpm.Out.ToString().Replace(id, "ID").Replace(_adpm.Cluster.LastSha, "SHA"), "submit");
    }

    /// <summary>Whoever names a gateway may be on another machine than the models.</summary>
    [Fact]
    public async Task Submit_ToAGateway_LeavesPathsToTheSilos()
    {
        _adpm.Cluster.OnSubmit = (id, _) => Samples.Running(id);
        var spec = Spec();
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync($"submit {spec} --gateway a:1"));
        Assert.Contains("model.path is 'unet', but paths are those of the silos here: write it as they see it, such as /models/NAME.", _adpm.Error.ToString(), StringComparison.Ordinal);
        var file = Path.Combine(_adpm.Folder, "elsewhere.yaml");
        var text = await File.ReadAllTextAsync(Path.Combine(_adpm.Folder, spec), TestContext.Current.CancellationToken);
        foreach (var name in new[] { "unet", "judge", "style.png", "other" })
            text = text.Replace($": {name}\n", $": /nowhere-but-there/{name}\n", StringComparison.Ordinal);
        await File.WriteAllTextAsync(file, text, TestContext.Current.CancellationToken);
        Assert.Equal(0, await _adpm.RunAsync($"submit {file} --gateway a:1"));
        Assert.True(_adpm.Cluster.LastPathsOfSilos);
        Assert.Contains("\"path\":\"/nowhere-but-there/unet\"", _adpm.Cluster.LastSpec, StringComparison.Ordinal);
        // The same without a gateway is looked for here.
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync($"submit {file}"));
        Assert.Contains("no such folder or file '/nowhere-but-there/unet'", _adpm.Error.ToString(), StringComparison.Ordinal);
        Assert.Equal(0, await _adpm.RunAsync($"submit {file} --paths-on-silos true"));
        Assert.Equal(0, await _adpm.RunAsync($"submit {spec} --json"));
        Assert.False(_adpm.Cluster.LastPathsOfSilos);
    }

    [Fact]
    public async Task Submit_Set_ChangesTheSpecAndTheId()
    {
        _adpm.Cluster.OnSubmit = (id, _) => Samples.Running(id);
        var spec = Spec();
        Assert.Equal(0, await _adpm.RunAsync($"submit {spec} --json"));
        Assert.Equal(0, await _adpm.RunAsync($"submit {spec} --json --set training.steps=3 --set maxTrials=1"));
        Assert.Contains("\"steps\":3,\"shards\"", _adpm.Cluster.LastSpec);
        Assert.Contains("\"maxTrials\":1", _adpm.Cluster.LastSpec);
        Assert.Equal(2, _adpm.Cluster.Experiments.Count);
        Assert.Equal(2, await _adpm.RunAsync($"submit {spec} --set training.stepz=3"));
        Assert.Contains("--set: 'training.stepz' is no place in the spec. Did you mean 'training.steps'?", _adpm.Error.ToString());
        Assert.Equal(2, await _adpm.RunAsync($"submit {spec} --set training.steps"));
        Assert.Equal(2, await _adpm.RunAsync($"submit {spec} --set model.path=unet"));
    }

    [Fact]
    public async Task InvalidSpec_Exits2WithEveryMistakeAndItsLine()
    {
        var spec = Spec(yaml => yaml.Replace("path: unet", "path: unit").Replace("name: adamw", "name: adma").Replace("maxTrials: 4", "maxTrails: 4"));
        await Verify($"submit {spec} --json", ExitCodes.Invalid, "invalid-spec");
        Assert.Empty(_adpm.Connected);
    }

    [Fact]
    public async Task ClusterRefuses_Exits1WithItsReason()
    {
        _adpm.Cluster.OnSubmit = (_, _) => throw new InvalidOperationException("No worker has a device of kind 'cuda'. Set resources.device to cpu.");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync($"submit {Spec()}"));
        Assert.Equal("error: No worker has a device of kind 'cuda'. Set resources.device to cpu.\n", _adpm.Error.ToString());
    }

    private string Spec(Func<string, string>? change = null) => SpecFiles.Write(_adpm.Folder, change);

    private void Follow()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running() with { Sequence = 0 };
        _adpm.Cluster.OnSubmit = (id, _) => Samples.Running(id);
        _adpm.Cluster.Events.AddRange(Samples.Events());
        _adpm.Cluster.BeforeEvent = EndWith;
    }

    private void EndWith(ExperimentEvent happened)
    {
        if (happened.Kind == EventKind.ExperimentEnded) _adpm.Cluster.Experiments[Id] = Samples.Ended();
    }

    private async Task Verify(string line, int exitCode, string name)
    {
        Assert.Equal(exitCode, await _adpm.RunAsync(line));
        Verified.Equal(_adpm.Text(line, exitCode), name);
    }
}
