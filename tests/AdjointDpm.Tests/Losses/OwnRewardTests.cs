using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Native;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

/// <summary>Rewards that users bring: TorchScript files and rewards computed elsewhere.</summary>
public sealed class OwnRewardTests
{
    private static readonly string Folder = ReferenceFolder.Of("losses");

    [Fact]
    public void TorchScript_ScoreAndGradient_ArePyTorchs()
    {
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "torchscript.safetensors"));
        using var loss = TorchScriptLoss.Load(Path.Combine(Folder, "reward.pt"));
        var samples = golden.Read("x") * 2 - 1;
        var (value, gradient) = Vjp.Of(loss.PerSample, samples, null);
        Reference.Close(-golden.Read("score"), value, "score", 1e-12);
        // One unit of the reward's [0, 1] is two of the samples'.
        Reference.Close(-golden.Read("gradient") / 2, gradient, "gradient", 1e-12);
        using var losses = TorchScriptLoss.Load(Path.Combine(Folder, "reward.pt"), PixelRange.Symmetric, maximise: false);
        Reference.Close(golden.Read("score"), losses.PerSample(golden.Read("x")), "as a loss", 1e-12);
        using var single = TorchScriptLoss.Load(Path.Combine(Folder, "reward.pt")).To(CPU, float32);
        Reference.Close(-golden.Read("score"), single.PerSample(samples).to(float64), "single precision", 1e-5);
        Assert.Equal(ScalarType.Float32, single.PerSample(samples).dtype);
    }

    /// <summary>libtorch rewrites a graph after its first runs; the bits of a step may not hang on how often a worker has run.</summary>
    [Fact]
    public void TorchScript_EveryRun_HasTheBitsOfTheFirst()
    {
        Assert.SkipUnless(PlainTorchScript.IsSupported, "This libtorch does not export the switch.");
        using var scope = NewDisposeScope();
        manual_seed(3);
        using var loss = TorchScriptLoss.Load(Path.Combine(Folder, "reward.pt")).To(CPU, float32);
        foreach (var side in new[] { 9, 32, 9 })
        {
            var x = randn(3, 3, side, side);
            using var fresh = TorchScriptLoss.Load(Path.Combine(Folder, "reward.pt")).To(CPU, float32);
            var (expected, slope) = Vjp.Of(fresh.PerSample, x, null);
            for (var i = 0; i < 5; i++)
            {
                var (value, gradient) = Vjp.Of(loss.PerSample, x, null);
                Assert.True(expected.Equals(value));
                Assert.True(slope.Equals(gradient));
            }
        }
    }

    [Theory]
    [InlineData("column.pt", "shape [2, 1] for 2 pictures; expected [2]", ".squeeze(1)")]
    [InlineData("whole.pt", "shape [] for 2 pictures; expected [2]", "Do not average over the batch")]
    [InlineData("pair.pt", "something else than one tensor", "expected the scores [2]")]
    public void TorchScript_WrongOutput_IsNamed(string file, params string[] said)
    {
        using var scope = NewDisposeScope();
        using var loss = TorchScriptLoss.Load(Path.Combine(Folder, file));
        var message = Assert.Throws<InvalidDataException>(() => loss.PerSample(randn(2, 3, 9, 8))).Message;
        Assert.All([file, .. said], s => Assert.Contains(s, message, StringComparison.Ordinal));
    }

    [Fact]
    public void TorchScript_PicturesThatDoNotFit_AreNamed()
    {
        using var scope = NewDisposeScope();
        using var loss = TorchScriptLoss.Load(Path.Combine(Folder, "reward.pt"));
        var message = Assert.Throws<InvalidDataException>(() => loss.PerSample(randn(2, 1, 9, 8))).Message;
        Assert.Contains("forward fails for pictures Float64[2, 1, 9, 8]", message, StringComparison.Ordinal);
        Assert.Contains("channels", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("rank.pt", "whole numbers")]
    [InlineData("cut.pt", "without a gradient")]
    public void TorchScript_WithoutAGradient_IsRefusedWithTheAlternatives(string file, string said)
    {
        using var scope = NewDisposeScope();
        using var loss = TorchScriptLoss.Load(Path.Combine(Folder, file));
        var message = Assert.Throws<NoGradientException>(() => Vjp.Of(loss.PerSample, randn(2, 3, 9, 8), null)).Message;
        Assert.All([said, "C# class", "TorchScript", "sidecar"], s => Assert.Contains(s, message, StringComparison.Ordinal));
        // Scores alone are fine where no gradient is wanted.
        if (file == "cut.pt")
            Assert.Equal([2L], loss.PerSample(randn(2, 3, 9, 8)).shape);
    }

    [Fact]
    public void TorchScript_OtherFiles_AreNamed()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("torch.save", Assert.Throws<InvalidDataException>(() => TorchScriptLoss.Load(Path.Combine(Folder, "state_dict.pt"))).Message, StringComparison.Ordinal);
        Assert.Contains("no TorchScript file", Assert.Throws<InvalidDataException>(() => TorchScriptLoss.Load(Path.Combine(Folder, "make.py"))).Message, StringComparison.Ordinal);
        Assert.Contains("no such file", Assert.Throws<FileNotFoundException>(() => TorchScriptLoss.Load(folder["none.pt"])).Message, StringComparison.Ordinal);
        var whole = File.ReadAllBytes(Path.Combine(Folder, "reward.pt"));
        File.WriteAllBytes(folder["cut.pt"], whole[..(whole.Length / 2)]);
        Assert.Contains("cut short", Assert.Throws<InvalidDataException>(() => TorchScriptLoss.Load(folder["cut.pt"])).Message, StringComparison.Ordinal);
        // The archive is whole, the code in it is not.
        File.WriteAllBytes(folder["odd.pt"], whole);
        using (var zip = System.IO.Compression.ZipFile.Open(folder["odd.pt"], System.IO.Compression.ZipArchiveMode.Update))
            zip.Entries.Single(e => e.FullName.EndsWith("data.pkl", StringComparison.Ordinal)).Delete();
        Assert.Contains("libtorch cannot read", Assert.Throws<InvalidDataException>(() => TorchScriptLoss.Load(folder["odd.pt"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void External_ValueAndGradient_AreTheGivenBits()
    {
        using var scope = NewDisposeScope();
        manual_seed(6);
        var x = randn(3, 2, 4, 4);
        var (scores, gradients) = (randn(3), randn(3, 2, 4, 4));
        var asked = new List<bool>();
        var loss = new ExternalRewardLoss(
            (images, want) =>
            {
                asked.Add(want);
                Assert.False(images.requires_grad);
                return new(scores.clone(), want ? gradients.clone() : null);
            },
            PixelRange.Symmetric);
        var (value, gradient) = Vjp.Of(loss.PerSample, x, null);
        Assert.True(value.Equals(-scores));
        Assert.True(gradient.Equals(-gradients));
        Assert.True(loss.PerSample(x).Equals(-scores));
        Assert.Equal([true, false], asked);

        // Behind a computation of one's own, the chain rule goes on from there.
        var (_, chained) = Vjp.Of(y => loss.PerSample(y.tanh()), x, null);
        Reference.Close(-gradients * (1 - x.tanh().pow(2)), chained, "chain rule", 1e-6);
        var weights = new WeightedLoss((3, loss));
        Reference.Close(-3 * gradients, Vjp.Of(weights.PerSample, x, null).Gradient, "weight", 1e-7);
    }

    [Fact]
    public void External_UnitRange_HasHalfTheGradient()
    {
        using var scope = NewDisposeScope();
        manual_seed(7);
        var x = randn(2, 3, 4, 4, dtype: float64);
        var (value, gradient) = Vjp.Of(new ExternalRewardLoss(EveryLoss.Brightness).PerSample, x, null);
        Reference.Close((x / 2 - 0.25).pow(2).mean([1, 2, 3]), value, "loss", 1e-14);
        Reference.Close((x / 2 - 0.25) / 48, gradient, "gradient", 1e-14);
    }

    [Fact]
    public void External_WrongAnswers_AreNamed()
    {
        using var scope = NewDisposeScope();
        var x = randn(2, 3, 4, 4);
        string Said<T>(Tensor scores, Tensor? gradients)
            where T : Exception
            => Assert.Throws<T>(() => Vjp.Of(new ExternalRewardLoss((_, _) => new(scores, gradients), source: "http://judge").PerSample, x, null)).Message;
        Assert.Contains("http://judge gives scores of shape [3] for 2 pictures", Said<InvalidDataException>(zeros(3), zeros_like(x)), StringComparison.Ordinal);
        Assert.Contains("gradients Float32[2, 3, 4] for pictures [2, 3, 4, 4]", Said<InvalidDataException>(zeros(2), zeros(2, 3, 4)), StringComparison.Ordinal);
        Assert.Contains("scores that are not finite", Said<InvalidDataException>(full([2], float.NaN), zeros_like(x)), StringComparison.Ordinal);
        Assert.Contains("gradients that are not finite", Said<InvalidDataException>(zeros(2), full_like(x, float.PositiveInfinity)), StringComparison.Ordinal);
        Assert.Contains("sidecar that returns gradients", Said<NoGradientException>(zeros(2), null), StringComparison.Ordinal);
    }
}
