using System.Diagnostics;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;

namespace AdjointDpm.Cluster.Tests;

/// <summary>The small Stable Diffusion of the examples in real processes: text, picture, loss, gradient, LoRA file, and pictures drawn with that.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class TextToImageTests
{
    private static readonly string Examples = Path.GetDirectoryName(DigitsSpecs.Models)!;

    [Fact]
    public async Task Example_TrainsALora_WhoseFilesAreReadAndDrawnWith()
    {
        var read = ExperimentDocument.Load(Path.Combine(Examples, "recolour-shapes.yaml"));
        Assert.DoesNotContain(read.Problems, problem => problem.Severity == SpecSeverity.Error);
        var spec = read.Document!.Spec with { Training = read.Document.Spec.Training with { Steps = 3 }, Sample = read.Document.Spec.Sample with { Steps = 4 }, HeldOut = new HeldOutSpec { Samples = 2 }, Checkpoint = new CheckpointSpec { SheetRows = 1 } };
        await using var cluster = await RealCluster.StartAsync(1);
        var snapshot = await cluster.RunAsync("shapes", spec);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
        var trial = Assert.Single(snapshot.Trials);
        Assert.True(trial.Metrics["loss.after"] < trial.Metrics["loss.before"]);
        var artefacts = trial.ArtifactFolder!;
        foreach (var file in new[] { "before-after.png", "model/model_index.json", "model/vae/config.json", "model/text_encoder/model.safetensors", "model/tokenizer/vocab.json", "lora/pytorch_lora_weights.safetensors" })
            Assert.True(File.Exists(Path.Combine(artefacts, file)), file);

        var kohya = Path.Combine(artefacts, "lora", "lora.safetensors");
        var inspected = await AskAsync(new InspectRequest(kohya));
        Assert.Equal("LoRA", inspected.Kind);
        Assert.Contains(new ToolFact("rank", "4"), inspected.Facts!);
        Assert.Equal("shapes-sd", inspected.Metadata!["ss_sd_model_name"]);
        var (plain, tuned) = (await DrawAsync("plain.png"), await DrawAsync("tuned.png", kohya));
        Assert.NotEqual(await File.ReadAllBytesAsync(plain, TestContext.Current.CancellationToken), await File.ReadAllBytesAsync(tuned, TestContext.Current.CancellationToken));
        var picture = await AskAsync(new InspectRequest(tuned));
        Assert.StartsWith("a red square on a dark ground\nSteps: 4, Sampler: ddim, CFG scale: 3, Seed: 5, Size: 64x64", picture.Metadata!["parameters"], StringComparison.Ordinal);
        Assert.Contains("lora.safetensors", picture.Metadata["adjointdpm"], StringComparison.Ordinal);

        var single = await AskAsync(new ConvertRequest(Path.Combine(artefacts, "model"), Path.Combine(cluster.Folder, "shapes.safetensors"), Dtype: "float16"));
        Assert.Contains("Stable Diffusion 1 as a single file; read back, all 1124 tensors equal.", single.Message, StringComparison.Ordinal);

        foreach (var (form, output, files) in new[]
        {
            ("lora", "pulled", new[] { "pulled/pytorch_lora_weights.safetensors", "pulled/shapes-0.safetensors" }),
            ("kohya", "fox.safetensors", ["fox.safetensors"]),
            ("peft", "peft", ["peft/adapter_config.json", "peft/adapter_model.safetensors"]),
            ("single-file", "whole", ["whole/shapes-0.safetensors"]),
            ("diffusers", "folder", ["folder"]),
        })
        {
            var pulled = await AskAsync(new PullRequest(artefacts, form, Path.Combine(cluster.Folder, output), "shapes-0", "adpm shapes/0") { BaseModel = spec.Model.Path });
            Assert.Equal(files, pulled.Files!.Select(file => Path.GetRelativePath(cluster.Folder, file)));
            Assert.All(pulled.Files!, file => Assert.True(Path.Exists(file), file));
            Assert.Contains(form is "single-file" or "diffusers" ? "all 1124 tensors equal" : "every weight is the tuned model's", pulled.Message, StringComparison.Ordinal);
        }

        Assert.Equal("adpm shapes/0", (await AskAsync(new InspectRequest(Path.Combine(cluster.Folder, "fox.safetensors")))).Metadata!["ss_training_comment"]);
        var another = Path.Combine(Path.GetDirectoryName(spec.Model.Path)!, "none");
        Assert.Contains("is not on this machine", (await AskAsync(new PullRequest(artefacts, "lora", "x", "x", "x") { BaseModel = another }, code: 1)).Error, StringComparison.Ordinal);
        // Compared with a model that it was not trained on, nothing is left behind.
        Assert.Contains("gives another", (await AskAsync(new PullRequest(artefacts, "lora", Path.Combine(cluster.Folder, "wrong"), "x", "x") { BaseModel = Path.Combine(artefacts, "model") }, code: 1)).Error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(Path.Combine(cluster.Folder, "wrong")));
        Assert.Contains("holds no learnt word", (await AskAsync(new PullRequest(artefacts, "embedding", "x", "x", "x"), code: 1)).Error, StringComparison.Ordinal);

        async Task<string> DrawAsync(string name, params string[] loras)
        {
            var drawn = await AskAsync(new DrawRequest(spec.Model.Path, ["a red square on a dark ground"], Path.Combine(cluster.Folder, name)) { Steps = 4, Guidance = 3, Seed = 5, Loras = loras });
            return Assert.Single(drawn.Files!);
        }
    }

    [Fact]
    public async Task Plan_OfTheExample_TellsMethodsApart()
    {
        var spec = ExperimentDocument.Load(Path.Combine(Examples, "recolour-shapes.yaml")).Document!.Spec;
        var memory = (await AskAsync(new PlanRequest(ExperimentSpecJson.Serialize(spec), Budget: 10_000_000_000))).Memory!;
        Assert.Equal((2, 8), (memory.Samples, memory.Steps));
        // 1,118,163 numbers in float32, and the adapters of rank 4.
        Assert.Equal(4 * 1_118_163, memory.WeightBytes);
        Assert.Equal(12 * memory.TrainedNumbers, memory.OptimizerBytes);
        var byMethod = memory.Methods.ToDictionary(method => method.Method);
        Assert.True(memory.Methods[0] is { Method: "discrete", IsConfigured: true, Evaluations: 16 });
        Assert.True(byMethod["store-all"].IsChosen);
        Assert.True(byMethod["store-all"].PeakBytes > 2 * byMethod["discrete"].PeakBytes);
        Assert.True(byMethod["discrete + checkpointing"].PeakBytes < 0.8 * byMethod["discrete"].PeakBytes, $"{byMethod["discrete + checkpointing"]}");
        Assert.Equal(24, byMethod["discrete + checkpointing"].Evaluations);
        var between = memory.WeightBytes + ((byMethod["discrete + checkpointing"].PeakBytes + byMethod["checkpointed(1)"].PeakBytes) / 2);
        var spared = (await AskAsync(new PlanRequest(ExperimentSpecJson.Serialize(spec), between))).Memory!.Methods.Single(method => method.IsChosen);
        Assert.Contains("model.checkpointing: true", spared.Settings, StringComparison.Ordinal);
        // With less room still, and where the spec leaves the method open, the decoder takes its two samples in turn.
        var open = spec with { Gradient = spec.Gradient with { Method = GradientName.Auto }, Resources = spec.Resources with { Memory = "1GB" } };
        var tight = memory.WeightBytes + (long)(0.85 * byMethod["discrete + checkpointing"].PeakBytes);
        var sliced = (await AskAsync(new PlanRequest(ExperimentSpecJson.Serialize(open), tight))).Memory!.Methods.Single(method => method.IsChosen);
        Assert.Contains("model.decoderSlices: true", sliced.Settings, StringComparison.Ordinal);
        Assert.StartsWith("gradient.method: ", sliced.Settings, StringComparison.Ordinal);
        var answer = await AskAsync(new PlanRequest(ExperimentSpecJson.Serialize(spec), Budget: 5_000_000), code: 1);
        Assert.Contains("No exact gradient", answer.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Estimate_OfReleasedModels_NeedsNoWeights()
    {
        var memory = (await AskAsync(new EstimateRequest("sd15") { Dtype = "float16", Trained = ["*attn*to_*"], Rank = 4, Budget = 6L << 30 })).Memory!;
        // A LoRA of rank 4 on all attention of Stable Diffusion 1.5 has 797,184 numbers.
        Assert.Equal(797_184, memory.TrainedNumbers);
        var chosen = memory.Methods.Single(method => method.IsChosen);
        Assert.True(chosen.PeakBytes + memory.WeightBytes <= 6L << 30);
        Assert.Equal("gradient.method: discrete\nmodel.checkpointing: true", chosen.Settings);
        Assert.Contains("Nothing fits in 1,000,000,000 bytes. The least is", (await AskAsync(new EstimateRequest("sdxl") { Budget = 1_000_000_000 }, code: 1)).Error, StringComparison.Ordinal);
        Assert.Contains("No weight of the network matches attention", (await AskAsync(new EstimateRequest("sd2") { Trained = ["attention"] }, code: 1)).Error, StringComparison.Ordinal);
        Assert.Contains("no whole number of latents", (await AskAsync(new EstimateRequest("sd1") { Height = 500, Width = 512 }, code: 1)).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pull_OfATrainedCondition_GivesTheEmbeddings()
    {
        var folder = Directory.CreateTempSubdirectory("adpm-pull-").FullName;
        try
        {
            const string Header = """{"__metadata__":{"positions":"1"},"prompt_embeds":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}""";
            Directory.CreateDirectory(Path.Combine(folder, "trial"));
            await File.WriteAllBytesAsync(Path.Combine(folder, "trial", "condition.safetensors"), [.. BitConverter.GetBytes((long)Header.Length), .. System.Text.Encoding.ASCII.GetBytes(Header), .. Enumerable.Range(0, 6).SelectMany(i => BitConverter.GetBytes((float)i))], TestContext.Current.CancellationToken);
            var pulled = await AskAsync(new PullRequest(Path.Combine(folder, "trial"), "embedding", Path.Combine(folder, "out"), "x-0", "adpm x/0"));
            Assert.Equal([Path.Combine(folder, "out", "condition.safetensors")], pulled.Files!);
            var written = await AskAsync(new InspectRequest(pulled.Files![0]));
            Assert.Equal(("prompt embeddings", "1"), (written.Kind, written.Metadata!["positions"]));
            Assert.Contains("holds no LoRA", (await AskAsync(new PullRequest(Path.Combine(folder, "trial"), "lora", folder, "x", "x"), code: 1)).Error, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task Tool_ThatCannot_SaysWhy()
    {
        var answer = await AskAsync(new InspectRequest("/no/such/file.safetensors"), code: 1);
        Assert.Contains("no such file", answer.Error, StringComparison.Ordinal);
        answer = await AskAsync(new DrawRequest(DigitsSpecs.Small.Model.Path, ["a cat"], "x.png"), code: 1);
        Assert.Contains("model_index.json", answer.Error, StringComparison.Ordinal);
    }

    private static async Task<ToolAnswer> AskAsync(ToolRequest request, int code = 0)
    {
        using var process = Process.Start(new ProcessStartInfo("dotnet", [SiloProcess.Program, ToolJson.Argument, ToolJson.Write(request)]) { RedirectStandardOutput = true })!;
        var answer = ToolJson.ReadAnswer(await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken));
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == code, answer.Error ?? answer.Message);
        return answer;
    }
}
