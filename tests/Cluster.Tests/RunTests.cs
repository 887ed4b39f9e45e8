using System.Text.Json.Nodes;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Cluster.Tests;

[Collection(RealCluster.OneAtATime)]
public sealed class RunTests
{
    [Fact]
    public async Task OneSilo_TrainsARealNetwork_AndServesMetricsHealthAndArtefacts()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var snapshot = await cluster.RunAsync("run", DigitsSpecs.Small);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
        var trial = Assert.Single(snapshot.Trials);
        Assert.True(trial.Metrics["loss.after"] < trial.Metrics["loss.before"]);
        Assert.InRange(trial.Metrics["heldOut.accuracy.after"], 0, 1);

        foreach (var file in new[] { "before.png", "after.png", "before-after.png", "loss.svg", "metrics.jsonl", "manifest.json", "model/model_index.json", "model/unet/config.json", "model/unet/diffusion_pytorch_model.safetensors", "model/scheduler/scheduler_config.json" })
            Assert.True(File.Exists(Path.Combine(trial.ArtifactFolder!, file)), file);
        var report = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(snapshot.ArtifactFolder, "report.json"), TestContext.Current.CancellationToken))!;
        Assert.Equal(1, (int)report["schema"]!);
        Assert.Equal(trial.ParametersSha256, (string?)report["trials"]![0]!["parametersSha256"]);
        // 3 steps of 4 shards at 4 sampler steps, and 20 held-out samples in fours of five, twice: by this silo alone.
        Assert.Equal(3 * 4 * 4 + 2 * 4 * 4, (int)report["trials"]![0]!["cost"]!["forwardNfe"]!);
        Assert.Equal(3 * 4 * 4, (int)report["trials"]![0]!["cost"]!["vjps"]!);

        Assert.Equal([new WorkerSnapshot("silo-0", "cpu:0")], await (await cluster.ClientAsync()).GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).ListAsync(TestContext.Current.CancellationToken));
        Assert.Equal("live\n", await cluster.Silos[0].GetAsync("/health/live"));
        Assert.Equal("ready\n", await cluster.Silos[0].GetAsync("/health/ready"));
        var metrics = await cluster.Silos[0].GetAsync("/metrics");
        foreach (var name in new[]
        {
            "adjointdpm_steps_total", "adjointdpm_samples_total", "adjointdpm_nfe_total", "adjointdpm_vjps_total", "adjointdpm_shards_total",
            "adjointdpm_trials_total", "adjointdpm_trials_active", "adjointdpm_gradient_bytes_total",
            "adjointdpm_step_duration_seconds_bucket", "adjointdpm_shard_duration_seconds_bucket", "orleans_", "dotnet_",
        })
            Assert.True(metrics.Contains(name, StringComparison.Ordinal), $"{name} is missing from\n{string.Join('\n', metrics.Split('\n').Where(line => line.StartsWith("adjointdpm", StringComparison.Ordinal)))}");
        Assert.True(await cluster.Silos[0].CountAsync("adjointdpm_steps_total") > 0);

        Assert.Equal(0, await cluster.Silos[0].TerminateAsync());
    }

    [Fact]
    public async Task Grid_WithABrokenTrialAndACutFile_EndsWithReasons()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var poisoned = Path.Combine(cluster.Folder, "poisoned");
        Repository.Copy(DigitsSpecs.Small.Model.Path, poisoned);
        using (var file = File.OpenWrite(Path.Combine(poisoned, "unet", "diffusion_pytorch_model.safetensors")))
        {
            file.Seek(-sizeof(float), SeekOrigin.End);
            file.Write(BitConverter.GetBytes(float.NaN));
        }
        var nan = await cluster.RunAsync("nan", DigitsSpecs.Small with
        {
            Parameters = new Dictionary<string, ParameterSpec> { ["model.path"] = new() { Values = [DigitsSpecs.Small.Model.Path, poisoned] } },
            Training = DigitsSpecs.Small.Training with { Shards = 2, SamplesPerShard = 2 },
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
        });
        Assert.Equal(RunState.Failed, nan.Trials[1].State);
        Assert.Contains("not finite", nan.Trials[1].Reason, StringComparison.Ordinal);
        Assert.True(nan.Trials[0].State == RunState.Succeeded, nan.Trials[0].Reason);
        Assert.Equal(RunState.Succeeded, nan.Summary.State);
        Assert.Equal(0, nan.BestTrial);

        var cut = Path.Combine(cluster.Folder, "cut");
        Repository.Copy(DigitsSpecs.Small.Model.Path, cut);
        var weights = Path.Combine(cut, "unet", "diffusion_pytorch_model.safetensors");
        using (var file = File.OpenWrite(weights))
            file.SetLength(file.Length / 2);
        var failed = await cluster.RunAsync("cut", DigitsSpecs.Small with { Model = new ModelSpec { Path = cut } });
        Assert.Equal(RunState.Failed, failed.Summary.State);
        Assert.Contains(weights, failed.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Lora_IsTrainedSavedAndMerged()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var snapshot = await cluster.RunAsync("lora", DigitsSpecs.Small with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attentions*to_*"], Rank = 2 } });
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        var folder = snapshot.Trials[0].ArtifactFolder!;
        Assert.True(File.Exists(Path.Combine(folder, "lora", "pytorch_lora_weights.safetensors")));
        Assert.True(File.Exists(Path.Combine(folder, "model", "unet", "diffusion_pytorch_model.safetensors")));
    }

    [Fact]
    public async Task Proof_IsMadeByARealSilo_AndRefusesAWrongGradient()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var only = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Only } };
        var proven = await cluster.RunAsync("proven", DigitsSpecs.Small with { Gradient = only });
        Assert.True(proven.Summary.State == RunState.Succeeded, proven.Reason);
        Assert.InRange(proven.Trials[0].Proof!.RelativeError, 0, 1e-12);
        var grain = (await cluster.ClientAsync()).GetGrain<IExperimentGrain>("proven");
        var proof = (await grain.GetGradientProofAsync(0, TestContext.Current.CancellationToken))!;
        Assert.Equal(["x_T", "mid_block"], proof.Differences.Select(difference => difference.Name));

        var continuous = await cluster.RunAsync("continuous", DigitsSpecs.Small with { Gradient = only with { Method = GradientName.Continuous } });
        Assert.Equal(RunState.Failed, continuous.Summary.State);
        Assert.Contains("mid_block: cosine", continuous.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WrongOption_EndsWithOneSentence()
    {
        var (code, error) = await SiloProcess.FailAsync("--Workers:Devices:0=gpu7");
        Assert.Equal(1, code);
        Assert.Equal("Workers:Devices holds 'gpu7'. Write a device as cpu:0 or cuda:0, or none alone for a silo that only coordinates.", error.Trim());
    }
}
