using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Networks whose blocks are computed again on the way back. Bytes are of the whole process: nothing else may run meanwhile.</summary>
[Collection(nameof(NativeHeapTests))]
public sealed class CheckpointingTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string, string> KindsAndMethods
    {
        get
        {
            var data = new TheoryData<string, string>();
            foreach (var kind in TinyModels.Kinds)
                foreach (var method in new[] { "discrete", "store-all" })
                    data.Add(kind, method);
            return data;
        }
    }

    /// <summary>Noise, conditioning, every weight and, through it, the decoder: the bits of plain differentiation.</summary>
    [Theory]
    [MemberData(nameof(KindsAndMethods))]
    public void EveryGradient_IsThatOfPlainDifferentiation_BitForBit(string kind, string method)
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make(kind);
        var (plain, again) = (Gradients(false), Gradients(true));
        Assert.Equal(plain.Keys, again.Keys);
        Assert.True(plain.Count > 300, $"{plain.Count} gradients");
        Assert.All(plain, p => Assert.True(p.Value.Equals(again[p.Key]), p.Key));
        Assert.Contains(plain, p => p.Key == "prompt" && p.Value.abs().max().ToSingle() > 0);

        Dictionary<string, Tensor> Gradients(bool checkpointing)
        {
            (model.Unet.Checkpointing, model.Autoencoder.Checkpointing) = (checkpointing, checkpointing);
            using var prompt = model.Encode(["a fox"]);
            using var negative = model.EncodeNothing(1);
            foreach (var parameter in model.Unet.parameters())
                parameter.requires_grad = true;
            var field = model.Field(prompt, negative, 3, new(16, 16)).With("prompt", prompt.States);
            field = model.Unet.named_parameters().Aggregate(field with { }, (f, p) => f.With(p.name, p.parameter));
            using var result = Sampling.Differentiate(model.Request(field, model.Noise(1, 16, 16, new(3)), 2), x => model.Decode(x).square().mean(), method == "discrete" ? GradientMethod.Discrete : GradientMethod.StoreAll, Token);
            var all = result.Inputs.ToDictionary(p => p.Key, p => p.Value.clone());
            all["noise"] = result.Noise.clone();
            all["sample"] = result.Sample.clone();
            return all;
        }
    }

    /// <summary>Samples one after the other, and tiles: the whole part is computed again, and in it each block.</summary>
    [Theory]
    [InlineData(true, null)]
    [InlineData(false, 16)]
    [InlineData(true, 16)]
    public void DecoderInParts_HasTheSameBits(bool slices, int? tile)
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        model.Autoencoder.Slicing = slices;
        model.Autoencoder.Tiles = tile is { } side ? new(side) : null;
        var latents = CounterNoise.Normal(new(5), [2, 4, 12, 12]);
        model.Autoencoder.Checkpointing = false;
        var plain = Vjp.Of(x => model.Decode(x).square().mean(), latents, null);
        model.Autoencoder.Checkpointing = true;
        var again = Vjp.Of(x => model.Decode(x).square().mean(), latents, null);
        Assert.True(plain.Gradient.Equals(again.Gradient) && plain.Value.Equals(again.Value));
    }

    [Fact]
    public void UnconditionalNetwork_HasTheSameBits()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        Tensor[] Run(bool checkpointing)
        {
            unet.Checkpointing = checkpointing;
            using var result = Sampling.Differentiate(Request(unet, all: true, 8), x => x.square().mean(), GradientMethod.Discrete, Token);
            return [result.Noise.clone(), .. result.Inputs.Values.Select(v => v.clone())];
        }

        Assert.All(Run(false).Zip(Run(true)), p => Assert.True(p.First.Equals(p.Second)));
    }

    /// <summary>What one evaluation keeps for its way back.</summary>
    [Fact]
    public void Graph_KeepsOnlyWhatGoesIntoBlocks_AndIsGivenBack()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        var request = Request(unet, all: false, 32);
        unet.Checkpointing = false;
        var plain = MemoryModel.Measure(request, x => x.square().mean());
        unet.Checkpointing = true;
        var again = MemoryModel.Measure(request, x => x.square().mean());
        Assert.True(again.NetworkGraph < 0.5 * plain.NetworkGraph, $"{again.NetworkGraph:n0} of {plain.NetworkGraph:n0} bytes");
        Assert.True(again.Plan(GradientMethod.Discrete).PeakBytes < 0.75 * plain.Plan(GradientMethod.Discrete).PeakBytes, $"{again.Plan(GradientMethod.Discrete)} of {plain.Plan(GradientMethod.Discrete)}");

        // One step has all maps of a network. The runtime allocates too, most of all in the first runs: the least growth of several counts. One map of one block has 262,144 bytes, so that
        // one that is kept in every run would be ten of them.
        var growth = Enumerable.Range(0, 4).Min(_ =>
        {
            var before = InUse();
            for (var i = 0; i < 10; i++)
                Differentiate();
            return InUse() - before;
        });
        Assert.True(growth < 5 * 262_144, $"{growth:n0} bytes in ten runs");

        static long InUse()
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return NativeHeap.InUse()!.Value;
        }

        void Differentiate()
        {
            using var result = Sampling.Differentiate(request with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 1) }, x => x.square().mean(), GradientMethod.StoreAll, Token);
        }
    }

    [Fact]
    public void WithoutGradMode_NothingIsKept()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        unet.Checkpointing = true;
        using var frozen = no_grad();
        Assert.False(unet.forward(ones(1, 4, 8, 8), tensor(3f), null).requires_grad);
    }

    /// <summary>Computed again, dropout would draw another mask: the gradient would be of neither.</summary>
    [Fact]
    public void DropoutInTrainingMode_IsRefused()
    {
        using var scope = NewDisposeScope();
        using var unet = new UNet2DModel(new UNet2DConfig { InChannels = 1, OutChannels = 1, BlockOutChannels = [8, 8], NormNumGroups = 4, AttentionHeadDim = 4, Dropout = 0.1, DownBlockTypes = ["DownBlock2D", "DownBlock2D"], UpBlockTypes = ["UpBlock2D", "UpBlock2D"] }) { Checkpointing = true };
        using var grad = enable_grad();
        unet.train();
        Assert.Contains("drops values at random in training mode", Assert.Throws<NotSupportedException>(() => unet.forward(ones(1, 1, 8, 8), tensor(3f), null)).Message, StringComparison.Ordinal);
        unet.eval();
        Assert.True(unet.forward(ones(1, 1, 8, 8), tensor(3f), null).requires_grad);
    }

    [Fact]
    public void SecondDerivatives_AreRefused()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        unet.Checkpointing = true;
        using var grad = enable_grad();
        var x = ones(1, 4, 8, 8).requires_grad_();
        Assert.Contains("Second derivatives", Assert.Throws<NotSupportedException>(() => Vjp.DifferentiableGradient(v => unet.forward(v, tensor(3f), null).sum(), x)).Message, StringComparison.Ordinal);
        Assert.True(Vjp.Of(v => unet.forward(v, tensor(3f), null).sum(), x.detach(), null).Gradient.isfinite().all().IsTrue());
    }

    /// <summary>Autograd's own way back cannot throw: NaN, and the reason at the next evaluation; after that all is well.</summary>
    [Fact]
    public void BareBackward_ThatFails_IsToldAtTheNextEvaluation()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        unet.Checkpointing = true;
        using var grad = enable_grad();
        var x = ones(1, 4, 8, 8).requires_grad_();
        var value = unet.forward(x, tensor(3f), null).sum();
        value.backward(retain_graph: true);
        Assert.True(x.grad!.isfinite().all().IsTrue());
        value.backward();
        Assert.True(x.grad.isnan().all().IsTrue());
        Assert.Contains("failed, and its gradients are NaN: With Checkpointing a graph is gone back through once.", Assert.Throws<InvalidOperationException>(() => unet.forward(x, tensor(3f), null)).Message, StringComparison.Ordinal);
        Assert.True(Vjp.Of(v => unet.forward(v, tensor(3f), null).sum(), x.detach(), null).Gradient.isfinite().all().IsTrue());
    }

    /// <summary>The collector runs while native code calls back and reads what it was given.</summary>
    [Fact]
    public void Gradients_UnderCollection_StayWhole()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        unet.Checkpointing = true;
        var request = Request(unet, all: true, 8);
        using var busy = new BusyCollector();
        Tensor? first = null;
        for (var i = 0; i < 20; i++)
        {
            using var result = Sampling.Differentiate(request, x => x.square().mean(), GradientMethod.Discrete, Token);
            first ??= result.Noise.clone();
            Assert.True(first.Equals(result.Noise));
        }
    }

    private static SampleRequest Request(UNet2DModel unet, bool all, int side)
    {
        var field = unet.Field();
        return new() { Field = all ? field.With("unet", unet) : field.Freeze(unet), Noise = CounterNoise.Normal(new(2), [1, 4, side, side]), Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 3) };
    }
}
