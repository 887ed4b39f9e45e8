using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Files;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Transformers;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Stable Diffusion 3's transformer against PyTorch's own autograd (Reference/sd3_transformer/make.py), and its gradients through flow-matching steps.</summary>
public sealed class SD3TransformerTests
{
    private static readonly SchedulerConfig Flow = new() { ClassName = "FlowMatchEulerDiscreteScheduler", Shift = 3 };

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("sd3", false, ScalarType.Float32)]
    [InlineData("sd35", false, ScalarType.Float32)]
    [InlineData("sd35", true, ScalarType.Float32)]
    [InlineData("sd3", false, ScalarType.Float64)]
    [InlineData("sd35", false, ScalarType.Float64)]
    public void Forward_OutputAndEveryGradient_ArePyTorchs(string kind, bool checkpointing, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        using var model = Load(kind);
        model.to(dtype);
        model.Checkpointing = checkpointing;
        using var io = SafetensorsFile.Open(Path.Combine(Folder(kind), "io.safetensors"));
        foreach (var parameter in model.parameters())
            parameter.requires_grad = true;
        var inputs = new[] { "sample", "states", "pooled" }.ToDictionary(n => n, n => io.Read(n).to(dtype).requires_grad_());
        var output = model.call(inputs["sample"], io.Read("timestep"), inputs["states"], inputs["pooled"]);
        Reference.Close(io.Read("output"), output, "output", dtype == ScalarType.Float64 ? 1e-6 : Reference.Tolerance);
        autograd.backward([output], [io.Read("cotangent").to(dtype)], inputs: [.. inputs.Values, .. model.parameters()]);
        foreach (var (name, value) in inputs)
            Reference.Close(io.Read("grad." + name), value.grad!, name);
        Reference.CloseGradients(model, Path.Combine(Folder(kind), "param_grads.safetensors"));
    }

    [Theory]
    [InlineData("sd3")]
    [InlineData("sd35")]
    public void Names_AndPositions_AreThoseOfTheFile(string kind)
    {
        using var scope = NewDisposeScope();
        using var model = new SD3Transformer2DModel(SD3TransformerConfig.Read(Path.Combine(Folder(kind), "config.json")));
        using var file = SafetensorsFile.Open(Path.Combine(Folder(kind), "diffusion_pytorch_model.safetensors"));
        var own = model.state_dict();
        Assert.Equal(file.Names, own.Keys.Order(StringComparer.Ordinal));
        Assert.All(own, p => Assert.Equal(file.Shape(p.Key), p.Value.shape));
        // Computed here, not read.
        Reference.Close(file.Read("pos_embed.pos_embed"), own["pos_embed.pos_embed"], "positions", 1e-7);
    }

    /// <summary>Names and shapes of the released sizes, without memory for them: 24 blocks of 24 heads; in 3.5 medium 13 of them attend twice.</summary>
    [Theory]
    [InlineData(false, 24, 192)]
    [InlineData(true, 24, 384)]
    public void ReleasedSizes_HaveTheNamesOfTheConversionScript(bool is35, int layers, int positions)
    {
        using var scope = NewDisposeScope();
        var config = new SD3TransformerConfig
        {
            NumLayers = layers,
            NumAttentionHeads = layers,
            CaptionProjectionDim = 64 * layers,
            PosEmbedMaxSize = positions,
            QkNorm = is35 ? "rms_norm" : null,
            DualAttentionLayers = is35 ? [.. Enumerable.Range(0, 13)] : [],
        };
        using var model = Layers.Blank(ScalarType.Float16, () => new SD3Transformer2DModel(config));
        var own = model.state_dict();
        Assert.Equal(Expected(config).Order(StringComparer.Ordinal), own.Keys.Order(StringComparer.Ordinal));
        Assert.Equal([1L, positions * positions, 1536], own["pos_embed.pos_embed"].shape);
        Assert.Equal([(is35 ? 9L : 6) * 1536, 1536], own["transformer_blocks.0.norm1.linear.weight"].shape);
    }

    [Theory]
    [InlineData("sd3", false)]
    [InlineData("sd35", false)]
    [InlineData("sd35", true)]
    public void Discrete_ThroughFlowSteps_IsTheUnrolledGradient_AndFiniteDifferences(string kind, bool guided)
    {
        using var scope = NewDisposeScope();
        using var model = Load(kind);
        model.to(float64);
        using var prompt = Text(1);
        using var negative = guided ? Text(2) : null;
        const string Weight = "transformer_blocks.0.attn.add_k_proj.weight";
        var weight = model.named_parameters().First(p => p.name == Weight).parameter;
        var field = model.Field(prompt, negative, 3).Freeze(model).With("states", prompt.States).With("pooled", prompt.Pooled!).With(Weight, weight);
        var request = new SampleRequest { Field = field, Noise = CounterNoise.Normal(new(3), [2, 4, 6, 10], float64), Grid = Flow.Grid(4), Sampler = Flow.Sampler() };
        Tensor Loss(Tensor x) => x.sin().mean();
        using var discrete = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, Token);
        using var unrolled = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, Token);
        Reference.Close(unrolled.Noise, discrete.Noise, "noise", 1e-12);
        foreach (var (name, value) in unrolled.Inputs)
            Reference.Close(value, discrete.Inputs[name], name, 1e-12);

        var at = new Dictionary<string, (Tensor Value, Tensor Gradient)> { ["noise"] = (request.Noise, discrete.Noise), ["states"] = (prompt.States, discrete.Inputs["states"]), ["pooled"] = (prompt.Pooled!, discrete.Inputs["pooled"]), [Weight] = (weight, discrete.Inputs[Weight]) };
        foreach (var (name, (value, gradient)) in at)
        {
            using var inner = NewDisposeScope();
            using var frozen = no_grad();
            var direction = CounterNoise.Normal(new(9), value.shape, float64);
            const double H = 1e-5;
            double Shifted(double h)
            {
                var before = value.clone();
                value.add_(direction, h);
                using var drawn = Sampling.Sample(request, Token);
                var loss = Loss(drawn.Sample).Number();
                value.copy_(before);
                return loss;
            }

            var (slope, expected) = ((Shifted(H) - Shifted(-H)) / (2 * H), gradient.mul(direction).sum().Number());
            Assert.True(Math.Abs(slope - expected) <= 1e-6 * Math.Max(Math.Abs(expected), 1e-3), $"{name}: {slope:g12} by differences, {expected:g12} by the gradient");
        }
    }

    /// <summary>Adapters on the attention of patches and text, through flow-matching steps, against differences in both matrices.</summary>
    [Fact]
    public void Lora_ThroughFlowSteps_HasTheGradientsOfDifferences()
    {
        using var scope = NewDisposeScope();
        using var model = Load("sd35");
        model.to(float64);
        using var prompt = Text(1);
        using var lora = new Lora(model, name => name.Contains(".attn", StringComparison.Ordinal) && !name.Contains("to_out", StringComparison.Ordinal), rank: 2, alpha: 3);
        Assert.Contains("transformer_blocks.2.attn.add_v_proj.weight", lora.WeightNames);
        using var frozen = no_grad();
        foreach (var (parameter, n) in lora.Parameters.Select((p, n) => (p.Value, n)))
            parameter.copy_(CounterNoise.Normal(new(20 + (ulong)n), parameter.shape, parameter.dtype).mul(0.3));
        lora.Fold();
        var field = lora.WeightNames.Zip(lora.Weights).Aggregate(model.Field(prompt).Freeze(model), (f, p) => f.With(p.First, p.Second));
        var request = new SampleRequest { Field = field, Noise = CounterNoise.Normal(new(3), [2, 4, 6, 10], float64), Grid = Flow.Grid(3), Sampler = Flow.Sampler() };
        using var result = Sampling.Differentiate(request, x => x.sin().mean(), GradientMethod.Discrete, Token);
        var gradients = lora.Gradients([.. lora.WeightNames.Select(n => result.Inputs[n])]);
        foreach (var n in new[] { 0, 1, lora.Parameters.Count - 2, lora.Parameters.Count - 1 })
        {
            var value = lora.Parameters[n].Value;
            var direction = CounterNoise.Normal(new(90), value.shape, value.dtype);
            const double H = 1e-3;
            double Shifted(double h)
            {
                var before = value.clone();
                value.add_(direction, h);
                lora.Fold();
                using var drawn = Sampling.Sample(request, Token);
                var loss = drawn.Sample.sin().mean().Number();
                value.copy_(before);
                lora.Fold();
                return loss;
            }

            var (slope, expected) = ((Shifted(H) - Shifted(-H)) / (2 * H), gradients[n].mul(direction).sum().Number());
            // Adapters are float32 numbers.
            Assert.True(Math.Abs(slope - expected) <= 1e-3 * Math.Max(Math.Abs(expected), 1e-4), $"{lora.Parameters[n].Name}: {slope:g12} by differences, {expected:g12} by the gradient");
        }
    }

    [Theory]
    [InlineData("discrete")]
    [InlineData("store-all")]
    public void Checkpointing_HasTheSameBits(string method)
    {
        using var scope = NewDisposeScope();
        using var model = Load("sd35");
        using var prompt = Text(1, float32);
        var request = new SampleRequest { Field = model.Field(prompt).With("states", prompt.States).With("transformer", model), Noise = CounterNoise.Normal(new(3), [2, 4, 6, 10]), Grid = Flow.Grid(3), Sampler = Flow.Sampler() };
        Tensor[] Run(bool checkpointing)
        {
            model.Checkpointing = checkpointing;
            foreach (var parameter in model.parameters())
                parameter.requires_grad = true;
            using var result = Sampling.Differentiate(request, x => x.sin().mean(), method == "discrete" ? GradientMethod.Discrete : GradientMethod.StoreAll, Token);
            return [result.Noise.clone(), .. result.Inputs.Values.Select(v => v.clone())];
        }

        Assert.All(Run(false).Zip(Run(true)), p => Assert.True(p.First.Equals(p.Second)));
    }

    [Fact]
    public void Folder_SavedAndLoaded_IsTheSame_AndOthersAreRefusedByName()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = Load("sd35");
        using var autoencoder = new AutoencoderKL(new AutoencoderKLConfig { BlockOutChannels = [8], NormNumGroups = 4, ShiftFactor = 0.0609, ScalingFactor = 1.5305, UseQuantConv = false, UsePostQuantConv = false });
        StableDiffusion3Folder.Save(folder.Path, model, autoencoder, Flow);
        var opened = StableDiffusion3Folder.Open(folder.Path);
        Assert.True(opened.ReadScheduler().IsFlow);
        var report = ModelFile.Inspect(folder.Path);
        Assert.Equal(["Stable Diffusion 3.5", "flow", "3 of 2 heads, 16 wide"], new[] { "model", "prediction", "blocks" }.Select(n => report.Facts.First(f => f.Key == n).Value));
        var listed = Assert.Single(ModelList.In(folder.Path));
        Assert.Equal(("diffusers folder", "Stable Diffusion 3.5", "float32"), (listed.Kind, listed.Model, Assert.Single(listed.Precision)));
        Assert.Contains("library alone", listed.Problem, StringComparison.Ordinal);
        using (var again = opened.LoadTransformer())
        using (var decoder = opened.LoadAutoencoder())
        {
            Same(model, again);
            Same(autoencoder, decoder);
            Assert.All(again.parameters(), p => Assert.False(p.requires_grad));
        }

        using (var half = opened.LoadTransformer(ScalarType.BFloat16))
        {
            Assert.All(half.parameters(), p => Assert.Equal(ScalarType.BFloat16, p.dtype));
            using var prompt = Text(1, float32);
            var request = new SampleRequest { Field = half.Field(prompt).Freeze(half), Noise = CounterNoise.Normal(new(3), [2, 4, 6, 10]), Grid = Flow.Grid(2), Sampler = Flow.Sampler() };
            using var coarse = Sampling.Differentiate(request, x => x.sin().mean(), GradientMethod.Discrete, Token);
            using var fine = Sampling.Differentiate(request with { Field = model.Field(prompt).Freeze(model) }, x => x.sin().mean(), GradientMethod.Discrete, Token);
            var cosine = nn.functional.cosine_similarity(coarse.Noise.flatten(), fine.Noise.flatten(), 0).Number();
            Assert.True(cosine >= 0.999, $"{cosine:f5}");
        }

        Assert.Contains("of 1, 4, 6, 7", "of " + Assert.Throws<ArgumentException>(() => model.call(zeros(1, 4, 6, 7), tensor(1f), zeros(1, 3, 12), zeros(1, 10))).Message.Split('[', ']')[1], StringComparison.Ordinal);
        Assert.Contains("caption_projection_dim is 1152", Assert.Throws<ModelConfigException>(() => new SD3Transformer2DModel(new() { NumAttentionHeads = 2 })).Message, StringComparison.Ordinal);
        Assert.Contains("dual_attention_layers is [2]", Assert.Throws<ModelConfigException>(() => new SD3Transformer2DModel(model.Config with { NumLayers = 2, DualAttentionLayers = [2] })).Message, StringComparison.Ordinal);
        Assert.Contains("layer_norm", Assert.Throws<ModelConfigException>(() => new SD3Transformer2DModel(model.Config with { QkNorm = "layer_norm" })).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["model_index.json"], "{\"transformer\": [\"diffusers\", \"FluxTransformer2DModel\"]}");
        Assert.Contains("transformer is FluxTransformer2DModel", Assert.Throws<ModelConfigException>(() => StableDiffusion3Folder.Open(folder.Path)).Message, StringComparison.Ordinal);

        static void Same(nn.Module expected, nn.Module actual)
        {
            var read = actual.state_dict();
            Assert.All(expected.state_dict(), p => Assert.True(p.Value.Equals(read[p.Key]), p.Key));
        }
    }

    // As scripts/convert_sd3_to_diffusers.py of diffusers lists them.
    private static List<string> Expected(SD3TransformerConfig config)
    {
        List<string> layers = ["pos_embed.proj", "context_embedder", "norm_out.linear", "proj_out"];
        foreach (var part in new[] { "timestep_embedder", "text_embedder" })
            layers.AddRange([$"time_text_embed.{part}.linear_1", $"time_text_embed.{part}.linear_2"]);
        List<string> alone = ["pos_embed.pos_embed"];
        for (var i = 0; i < config.NumLayers; i++)
        {
            var (block, last, dual) = ($"transformer_blocks.{i}.", i == config.NumLayers - 1, config.DualAttentionLayers.Contains(i));
            string[] names = ["norm1.linear", "norm1_context.linear", "attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_out.0", "ff.net.0.proj", "ff.net.2",
                .. last ? Array.Empty<string>() : ["attn.to_add_out", "ff_context.net.0.proj", "ff_context.net.2"], .. dual ? ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"] : Array.Empty<string>()];
            layers.AddRange(names.Select(n => block + n));
            if (config.QkNorm is not null)
                alone.AddRange(new[] { "attn.norm_q", "attn.norm_k", "attn.norm_added_q", "attn.norm_added_k" }.Concat(dual ? ["attn2.norm_q", "attn2.norm_k"] : []).Select(n => $"{block}{n}.weight"));
        }

        return [.. alone, .. layers.SelectMany(l => new[] { l + ".weight", l + ".bias" })];
    }

    private static string Folder(string kind) => Path.Combine(ReferenceFolder.Of("sd3_transformer"), kind);

    private static SD3Transformer2DModel Load(string kind)
    {
        var model = new SD3Transformer2DModel(SD3TransformerConfig.Read(Path.Combine(Folder(kind), "config.json")));
        ModuleWeights.Load(model, Path.Combine(Folder(kind), "diffusion_pytorch_model.safetensors"));
        model.eval();
        return model;
    }

    private static PromptEmbeddings Text(uint key, ScalarType dtype = ScalarType.Float64) =>
        new(CounterNoise.Normal(new(key), [2, 3, 12], dtype).DetachFromDisposeScope(), CounterNoise.Normal(new(key + 100), [2, 10], dtype).DetachFromDisposeScope());
}
