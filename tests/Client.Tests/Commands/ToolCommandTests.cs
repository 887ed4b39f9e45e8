using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;

namespace AdjointDpm.Client.Tests.Commands;

/// <summary>inspect, convert and sample, with a script in the place of the silo's program.</summary>
[Collection("processes")] // a file just written cannot be run while another thread forks
public sealed class ToolCommandTests : IDisposable
{
    private readonly Adpm _adpm = new();

    public void Dispose() => _adpm.Dispose();

    [Fact]
    public async Task Inspect_ShowsFactsAndMetadataOnOneLineEach()
    {
        Silo(new ToolAnswer
        {
            Kind = "LoRA",
            Facts = [new("dialect", "kohya"), new("rank", "4")],
            Metadata = new Dictionary<string, string> { ["ss_comment"] = "two\nlines \u001b[31m" },
            Tensors = [new("lora_unet_a.alpha", "F32", []), new("lora_unet_a.lora_down.weight", "F16", [4, 320])],
        });
        Assert.Equal(0, await _adpm.RunAsync("inspect a.safetensors --tensors"));
        Assert.Equal("LoRA\n  dialect          kohya\n  rank             4\nmetadata\n  ss_comment: two ⏎ lines  [31m\nF32   [] lora_unet_a.alpha\nF16   [4, 320] lora_unet_a.lora_down.weight\n", _adpm.Out.ToString());
        Assert.Equal(new InspectRequest(Path.Combine(_adpm.Folder, "a.safetensors")), Asked());
    }

    [Fact]
    public async Task Inspect_Json_HasASchema()
    {
        Silo(new ToolAnswer { Kind = "weights" });
        Assert.Equal(0, await _adpm.RunAsync("inspect a --json"));
        using var json = JsonDocument.Parse(_adpm.Out.ToString());
        Assert.Equal(("adjointdpm.dev/inspection/v1", "weights"), (json.RootElement.GetProperty("schema").GetString(), json.RootElement.GetProperty("kind").GetString()));
    }

    [Fact]
    public async Task Convert_AsksWithWholePaths_AndTellsWhatWasCompared()
    {
        Silo(new ToolAnswer { Message = "A LoRA of 2 layers as kohya; read back, what it adds to each weight is the same.", Files = ["b.safetensors"] });
        Assert.Equal(0, await _adpm.RunAsync("convert a.safetensors b.safetensors --model sd --as kohya"));
        Assert.Equal("b.safetensors: A LoRA of 2 layers as kohya; read back, what it adds to each weight is the same.\n", _adpm.Out.ToString());
        Assert.Equal(new ConvertRequest(At("a.safetensors"), At("b.safetensors"), At("sd"), "kohya") { TellsProgress = true }, Asked());
    }

    [Fact]
    public async Task Sample_PassesEveryOption()
    {
        Silo(new ToolAnswer { Files = [At("out-1.png"), At("out-2.png")] });
        Assert.Equal(0, await _adpm.RunAsync("sample sd -p cat -p dog -n blurry -o out.png --steps 7 --guidance 3 --seed 5 --height 64 --width 32 --sampler heun --lora l.safetensors:0.5 --embedding e.safetensors"));
        Assert.Equal("out-1.png\nout-2.png\n", _adpm.Out.ToString());
        var asked = Assert.IsType<DrawRequest>(Asked());
        Assert.Equal(["cat", "dog"], asked.Prompts);
        Assert.Equal((At("sd"), At("out.png"), "blurry", 7, 3.0, 5L), (asked.Model, asked.Output, asked.Negative, asked.Steps, asked.Guidance, asked.Seed));
        Assert.Equal((64, 32, "heun"), (asked.Height, asked.Width, asked.Sampler));
        Assert.Equal((At("l.safetensors:0.5"), At("e.safetensors")), (asked.Loras[0], asked.Words[0]));
    }

    [Fact]
    public async Task Sample_OfASingleFile_PassesHowItsNetworksRunAndShowsWarnings()
    {
        Silo(new ToolAnswer { Files = [At("sample.png")], Warnings = ["A prompt has 80 tokens."] });
        Assert.Equal(0, await _adpm.RunAsync("sample model.safetensors --prompt-embeds c.safetensors --dtype bfloat16 --prediction v_prediction --tiles 256 --fused-attention"));
        Assert.Contains("80 tokens", _adpm.Error.ToString(), StringComparison.Ordinal);
        var asked = Assert.IsType<DrawRequest>(Asked());
        Assert.Equal((At("model.safetensors"), At("c.safetensors"), "bfloat16", "v_prediction", 256, true), (asked.Model, asked.PromptEmbeds, asked.Dtype, asked.Prediction, asked.Tiles, asked.Fused));
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync("sample model.safetensors --prediction score -p cat"));
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync("sample model.safetensors"));
    }

    /// <summary>What fits is found before the experiment is sent, and is part of what is sent.</summary>
    [Fact]
    public async Task Submit_WithMethodAuto_SendsTheMethodThatFits()
    {
        Silo(new ToolAnswer { Memory = new ShardMemory(2, 4, 1000, 10, 120, [new("discrete", 9, 1, 8, 0, 0, 8), new("discrete + checkpointing", 5, 1, 4, 0, 0, 12) { IsChosen = true, Settings = "gradient.method: discrete\nmodel.checkpointing: true" }]) });
        var file = SpecFiles.Write(_adpm.Folder);
        _adpm.Cluster.OnSubmit = (id, _) => Samples.Running(id);
        Assert.Equal(0, await _adpm.RunAsync($"submit {file} --set gradient.method=auto --set resources.memory=2GB"));
        Assert.Equal(2_000_000_000, Assert.IsType<PlanRequest>(Asked()).Budget);
        var sent = ExperimentSpecJson.Deserialize(_adpm.Cluster.LastSpec);
        Assert.Equal((GradientName.Discrete, true, "2GB"), (sent.Gradient.Method, sent.Model.Checkpointing, sent.Resources.Memory));
        Assert.Contains("gradient.method auto, in 2GB: gradient.method: discrete, model.checkpointing: true", _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Plan_ShowsMethodsPartByPart()
    {
        Silo(new ToolAnswer
        {
            Memory = new ShardMemory(4, 8, 1_720_000_000, 797_184, 9_566_208, [
                new("discrete", 2_500_000_000, 1_000_000, 2_300_000_000, 0, 199_000_000, 16) { IsConfigured = true },
                new("store-all", 18_400_000_000, 500, 18_399_999_500, 0, 0, 8) { IsChosen = true },
            ]),
        });
        Assert.Equal(0, await _adpm.RunAsync($"plan {SpecFiles.Write(_adpm.Folder)} --budget 40GiB"));
        Assert.Equal(
            "Weights 1.7 GB; 797,184 trained numbers, 9.6 MB with the optimiser's state, on the coordinator.\nA shard of 4 samples, 8 steps; above the weights:\n\n"
            + "  method                  peak    states   network      loss gradients evaluations\n"
            + "  discrete              2.5 GB    1.0 MB    2.3 GB       0 B    199 MB          16  of the spec\n"
            + "  store-all            18.4 GB     500 B   18.4 GB       0 B       0 B           8  fits best\n", _adpm.Out.ToString());
        Assert.Equal(40L << 30, Assert.IsType<PlanRequest>(Asked()).Budget);
    }

    [Fact]
    public async Task CheckReward_AsksForAFileOrAnAddress_AndShowsWhatIsWrong()
    {
        var fit = new RewardFitness("reward.pt", []) { Lowest = -1, Highest = 2, Mean = 0.5, GradientNorm = 3, Precision = "float64", Tolerance = 1e-6, Slopes = [new("gradient", 1, 1, 2e-9), new("random 1", 1, 1, 3e-8)], Deterministic = true };
        Silo(new ToolAnswer { Rewards = [fit] });
        Assert.Equal(ExitCodes.Ok, await _adpm.RunAsync("check-reward reward.pt --size 1x8x8 --samples 4 --symmetric --column 2"));
        Assert.Equal(
            "reward.pt  fit\n"
            + "  losses -1 to 2, mean 0.5; norm of the gradient 3; float64\n"
            + "  gradient within 3.0e-8 of finite differences along 2 directions (allowed 1.0e-6)\n"
            + "  other samples change a sample's loss by 0.0e0 of its size; the same bits when asked again: yes\n", _adpm.Out.ToString());
        var asked = Assert.IsType<CheckRewardRequest>(Asked());
        Assert.Equal((At("reward.pt"), null, 4, 2, true), (asked.File, asked.Address, asked.Samples, asked.Column, asked.Symmetric));
        Assert.Equal([1, 8, 8], asked.Shape);

        Silo(new ToolAnswer { Rewards = [new RewardFitness("http://there:1", ["It gives scores without a gradient."])] });
        Assert.Equal(ExitCodes.NotProven, await _adpm.RunAsync("check-reward http://there:1"));
        Assert.EndsWith("http://there:1  not fit\n  ✗ It gives scores without a gradient.\n", _adpm.Out.ToString(), StringComparison.Ordinal);
        Assert.Equal("http://there:1", Assert.IsType<CheckRewardRequest>(Asked()).Address);
        Assert.Equal(ExitCodes.NotProven, await _adpm.RunAsync("check-reward http://there:1 --json"));
        Assert.Contains("\"schema\": \"adjointdpm.dev/rewards/v1\"", _adpm.Out.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sample_TakesAFileOfPrompts()
    {
        Silo(new ToolAnswer { Files = [At("sample.png")] });
        Assert.Equal(0, await _adpm.RunAsync("sample sd --prompts animals.txt"));
        var asked = Assert.IsType<DrawRequest>(Asked());
        Assert.Equal((0, At("animals.txt")), (asked.Prompts.Count, asked.PromptsFile));
    }

    [Theory]
    [InlineData("shapes", 1)]
    [InlineData("shapes-0a1b2c3d/0", 0)]
    public async Task Pull_OfAnEndedExperiment_NeedsNoCluster(string what, int trial)
    {
        var artifacts = Ended();
        Silo(new ToolAnswer { Message = "A LoRA of 2 layers.", Files = [At("out/pytorch_lora_weights.safetensors")] });
        Assert.Equal(0, await _adpm.RunAsync($"pull {what} out --as lora --data data"));
        Assert.Equal("out/pytorch_lora_weights.safetensors\n", _adpm.Out.ToString());
        Assert.Equal(new PullRequest(Path.Combine(artifacts, $"trial-{trial}"), "lora", At("out"), $"shapes-0a1b2c3d-{trial}", $"adpm shapes-0a1b2c3d/{trial}") { BaseModel = "/models/sd", TellsProgress = true }, Asked());
        Assert.Empty(_adpm.Connected);
    }

    [Fact]
    public async Task Pull_OfWhatIsNotThere_SaysWhy()
    {
        var artifacts = Ended();
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("pull shapes/2 out --as lora --data data"));
        Assert.Contains($"Trial 2 of 'shapes-0a1b2c3d' has no results at '{Path.Combine(artifacts, "trial-2")}'. It did not end yet", _adpm.Error.ToString().Replace('\n', ' '));
        File.Delete(Path.Combine(artifacts, "report.json"));
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("pull shapes out --as lora --data data"));
        Assert.Contains("'shapes-0a1b2c3d' has not ended", _adpm.Error.ToString());
    }

    [Fact]
    public async Task Pull_FromACluster_AsksForTheBestTrial()
    {
        var folder = At("store/stylize-0a1b2c3d");
        Directory.CreateDirectory(Path.Combine(folder, "trial-1"));
        await File.WriteAllTextAsync(Path.Combine(folder, "trial-1", "manifest.json"), "{}", TestContext.Current.CancellationToken);
        _adpm.Cluster.Experiments["stylize-0a1b2c3d"] = Samples.Ended() with { ArtifactFolder = folder };
        Silo(new ToolAnswer { Message = "done", Files = [] });
        Assert.Equal(0, await _adpm.RunAsync("pull stylize out.safetensors --as single-file --dtype float16 --gateway 127.0.0.1:1"));
        var asked = Assert.IsType<PullRequest>(Asked());
        Assert.Equal((Path.Combine(folder, "trial-1"), "single-file", At("out.safetensors"), "float16"), (asked.Artifacts, asked.Form, asked.Output, asked.Dtype));
    }

    /// <summary>A data folder with an experiment of two trials that ended.</summary>
    private string Ended()
    {
        var artifacts = At("data/experiments/shapes-0a1b2c3d");
        foreach (var trial in new[] { 0, 1 })
        {
            Directory.CreateDirectory(At($"data/trials/shapes-0a1b2c3d/{trial}"));
            Directory.CreateDirectory(Path.Combine(artifacts, $"trial-{trial}"));
            File.WriteAllText(Path.Combine(artifacts, $"trial-{trial}", "manifest.json"), "{}");
        }

        File.WriteAllText(Path.Combine(artifacts, "report.json"), """{"schema": 1, "spec": {"model": {"path": "/models/sd"}}, "objective": {"bestTrial": 1}, "trials": []}""");
        return artifacts;
    }

    [Fact]
    public async Task ModelsLs_ShowsWhatIsThere()
    {
        Directory.CreateDirectory(At("loras"));
        _adpm.Variables["HF_HUB_CACHE"] = At("hub");
        _adpm.Variables["ADPM_MODELS"] = At("loras");
        Silo(new ToolAnswer
        {
            Models = [
                new("org/sd", "diffusers folder", "Stable Diffusion 1", 4_265_380_512, ["float32"], "/hub/sd"),
                new("loras/a.safetensors", "unreadable", null, 12, [], At("loras/a.safetensors")) { Problem = "a.safetensors: the file is cut short." },
                new("org/bert", "other", "BertModel", 440_000_000, ["float32"], "/hub/bert"),
            ],
        });
        Assert.Equal(0, await _adpm.RunAsync("models ls --folder loras"));
        Assert.Equal(
            "name                 kind                  size  precision  model\n"
            + "org/sd               diffusers folder    4.3 GB  float32    Stable Diffusion 1\n"
            + "loras/a.safetensors  unreadable            12 B\n"
            + "  a.safetensors: the file is cut short.\n", _adpm.Out.ToString());
        var asked = Assert.IsType<ModelsRequest>(Asked());
        Assert.Equal((At("hub"), At("loras")), (asked.Cache, Assert.Single(asked.Folders)));
    }

    [Fact]
    public async Task ModelsLs_Json_ListsAllWithTheirPlaces()
    {
        _adpm.Variables["HF_HOME"] = At("home");
        Silo(new ToolAnswer { Models = [new("org/sd", "diffusers folder", "Stable Diffusion 1", 12, ["float16"], "/hub/sd") { Commit = "0123" }] });
        Assert.Equal(0, await _adpm.RunAsync("models ls --json"));
        using var json = JsonDocument.Parse(_adpm.Out.ToString());
        Assert.Equal(("adjointdpm.dev/models/v1", At("home/hub")), (json.RootElement.GetProperty("schema").GetString(), json.RootElement.GetProperty("lookedIn")[0].GetString()));
        Assert.Equal("0123", json.RootElement.GetProperty("models")[0].GetProperty("commit").GetString());
    }

    [Fact]
    public async Task ModelsLs_WithoutModels_SaysWhereItLooked()
    {
        _adpm.Variables["HF_HUB_CACHE"] = At("hub");
        Silo(new ToolAnswer { Models = [] });
        Assert.Equal(0, await _adpm.RunAsync("models ls"));
        Assert.Contains($"No models. Looked in: {At("hub")}.", _adpm.Error.ToString());
    }

    [Fact]
    public async Task Model_OfTheCache_IsFoundByItsName()
    {
        _adpm.Variables["HF_HUB_CACHE"] = At("hub");
        var snapshot = At("hub/models--org--sd/snapshots/0123456789");
        Directory.CreateDirectory(snapshot);
        Directory.CreateDirectory(At("hub/models--org--sd/refs"));
        await File.WriteAllTextAsync(At("hub/models--org--sd/refs/main"), "0123456789", TestContext.Current.CancellationToken);
        Silo(new ToolAnswer { Kind = "diffusers folder" });
        Assert.Equal(0, await _adpm.RunAsync("inspect org/sd"));
        Assert.Equal(new InspectRequest(snapshot), Asked());
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("inspect org/other"));
        Assert.Contains($"There is no file or folder '{At("org/other")}'. There is no model 'org/other' in the Hugging Face cache", _adpm.Error.ToString());
    }

    [Fact]
    public async Task Plan_OfAModel_NeedsNoExperiment_AndSaysWhatToSet()
    {
        Silo(new ToolAnswer { Memory = new ShardMemory(2, 30, 2_500_000_000, 797_184, 9_566_208, [new("discrete + checkpointing", 2_500_000_000, 1_000_000, 2_499_000_000, 0, 0, 90) { IsChosen = true, Settings = "gradient.method: discrete\nmodel.checkpointing: true" }]) });
        Assert.Equal(0, await _adpm.RunAsync("plan --model sdxl --size 768x512 --steps 30 --batch 2 --dtype float16 --train *attn*to_* --rank 4 --no-guidance --budget 24GiB"));
        Assert.EndsWith("  fits best\n\ngradient.method: discrete\nmodel.checkpointing: true\n", _adpm.Out.ToString(), StringComparison.Ordinal);
        var asked = Assert.IsType<EstimateRequest>(Asked());
        Assert.Equal(("sdxl", 768, 512, 30, 2, "float16", 4, false, 24L << 30), (asked.Model, asked.Width, asked.Height, asked.Steps, asked.Batch, asked.Dtype, asked.Rank, asked.Guided, asked.Budget));
        Assert.Equal(["*attn*to_*"], asked.Trained);
    }

    [Theory]
    [InlineData("plan", "Name an experiment, or a model with --model.")]
    [InlineData("plan x.yaml --model sd1", "Name an experiment, or a model with --model.")]
    [InlineData("plan --model sd1 --size 5x", "--size: '5x' is no size. Write it like 512 or 768x512.")]
    [InlineData("models ls --folder nowhere", "There is no folder")]
    [InlineData("check-reward r.pt --size 3x64", "--size: '3x64' is no size of pictures. Write it like 3x64x64.")]
    [InlineData("check-reward r.pt --samples 1", "--samples must be from 2 to 64.")]
    [InlineData("plan x.yaml --budget much", "--budget: 'much' is no size. Write it like 8GB or 512MB.")]
    [InlineData("sample sd", "Nothing to draw: give --prompt, a file of them with --prompts, or of their embeddings")]
    [InlineData("pull a b --as zip", "Argument 'zip' not recognized.")]
    [InlineData("pull a/b/c out --as lora --data .", "'a/b/c' names no experiment and no trial.")]
    [InlineData("sample sd -p a --steps 0", "--steps must be from 1 to 1000.")]
    [InlineData("sample sd -p a --seed -1", "--seed must be 0 or more.")]
    [InlineData("convert a", "Required argument 'OUT' missing")]
    public async Task WrongUsage_Exits2(string line, string expected)
    {
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync(line));
        Assert.Contains(expected, _adpm.Error.ToString().Replace('\n', ' '));
    }

    [Fact]
    public async Task Failure_IsTheToolsOwnSentence()
    {
        Silo(new ToolAnswer("a.safetensors: this is a pickled checkpoint."), exitCode: 1);
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("inspect a.safetensors"));
        Assert.Contains("a.safetensors: this is a pickled checkpoint.", _adpm.Error.ToString());
    }

    [Fact]
    public async Task NoAnswer_TellsTheLastWord()
    {
        Script("echo 'Unhandled exception.' >&2; exit 134");
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("inspect a"));
        Assert.Contains("gave no answer: Unhandled exception.", _adpm.Error.ToString().Replace('\n', ' '));
    }

    private string At(string name) => Path.Combine(_adpm.Folder, name);

    private ToolRequest Asked() => ToolJson.ReadRequest(File.ReadAllText(At("asked")));

    private void Silo(ToolAnswer answer, int exitCode = 0)
    {
        File.WriteAllText(At("answer"), ToolJson.Write(answer) + "\n");
        Script($"printf '%s' \"$2\" >'{At("asked")}'; cat '{At("answer")}'; exit {exitCode}");
    }

    private void Script(string script)
    {
        var file = At("silo.sh");
        File.WriteAllText(file, "#!/bin/sh\n" + script + "\n");
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        _adpm.Variables["ADJOINTDPM_SILO"] = file;
    }
}
