using System.Globalization;
using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

public sealed class ImagePreparationTests
{
    [Theory]
    [InlineData("bilinear.4x5")]
    [InlineData("bilinear.20x17")]
    [InlineData("bilinear.5x21")]
    [InlineData("bilinear.1x1")]
    [InlineData("bicubic.4x5")]
    [InlineData("bicubic.20x17")]
    [InlineData("bicubic.5x21")]
    [InlineData("bicubic.1x1")]
    public void Resize_ValueAndGradient_ArePyTorchs(string key)
    {
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(ReferenceFolder.Of("losses"), "resize.safetensors"));
        var size = key.Split('.')[1].Split('x').Select(n => long.Parse(n, CultureInfo.InvariantCulture)).ToArray();
        var filter = key.StartsWith("bicubic", StringComparison.Ordinal) ? ResizeFilter.Bicubic : ResizeFilter.Bilinear;
        var (y, vjp) = Vjp.Of(x => ImageResize.To(x, size[0], size[1], filter), golden.Read("x"), golden.Read(key + ".cotangent"));
        Reference.Close(golden.Read(key + ".y"), y, "resized", 1e-13);
        Reference.Close(golden.Read(key + ".vjp"), vjp, "gradient", 1e-13);
    }

    [Fact]
    public void Resize_Shrinking_GivesEveryPixelAGradient()
    {
        using var scope = NewDisposeScope();
        var (_, gradient) = Vjp.Of(x => ImageResize.To(x, 4, 4), rand(1, 1, 32, 32, dtype: float64), null);
        Assert.True(gradient.min().Number() > 0);
        Assert.Equal(16, gradient.sum().Number(), 1e-10);
        Assert.Throws<ArgumentException>(() => ImageResize.To(rand(3, 4, 4), 2, 2));
        Assert.Throws<ArgumentException>(() => ImageResize.To(rand(1, 3, 4, 4), 0, 2));
    }

    [Fact]
    public void Resize_ToItsOwnSize_IsThePicture()
    {
        using var scope = NewDisposeScope();
        var x = rand(1, 3, 5, 6);
        Assert.True(x.Equals(ImageResize.To(x, 5, 6)));
    }

    [Fact]
    public void Clip_NormalisesAsCLIPDoes()
    {
        using var scope = NewDisposeScope();
        var clip = ImagePreparation.Clip(6);
        var black = clip.Apply(full([1, 3, 6, 6], -1.0, dtype: float64));
        Assert.Equal(-0.48145466 / 0.26862954, black[0, 0, 3, 3].Number(), 1e-12);
        Assert.Equal((1 - 0.40821073) / 0.27577711, clip.Apply(full([1, 3, 9, 7], 1.0, dtype: float64))[0, 2, 0, 0].Number(), 1e-12);
        Assert.Equal((0.5 - 0.456) / 0.224, ImagePreparation.ImageNet(4).Apply(zeros(1, 1, 4, 4, dtype: float64))[0, 1, 0, 0].Number(), 1e-12);
        Assert.Contains("have 2 channels", Assert.Throws<ArgumentException>(() => clip.Apply(zeros(1, 2, 6, 6))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(9, 12)]
    [InlineData(13, 8)]
    [InlineData(6, 11)]
    public void Crop_IsTheMiddleOfThePictureResizedToItsShorterSide(int height, int width)
    {
        using var scope = NewDisposeScope();
        var plain = new ImagePreparation { Side = 6, Mean = [0], Deviation = [1] };
        var x = rand(2, 3, height, width, dtype: float64);
        var (tall, wide) = height < width ? (6, 6 * width / height) : (6 * height / width, 6);
        var sized = ImageResize.To(x, tall, wide, ResizeFilter.Bicubic);
        var (top, left) = ((int)Math.Round((tall - 6) / 2.0), (int)Math.Round((wide - 6) / 2.0));
        Reference.Close(sized.slice(2, top, top + 6, 1).slice(3, left, left + 6, 1) / 2 + 0.5, plain.Apply(x), "crop", 1e-13);
        Reference.Close(ImageResize.To(x, 6, 6, ResizeFilter.Bicubic) / 2 + 0.5, (plain with { Fit = ImageFit.Stretch }).Apply(x), "squeezed", 1e-13);
    }

    [Fact]
    public void Cutouts_AreAFunctionOfSeedStepAndSize()
    {
        var plan = new CutoutPlan(Seed: 11, Count: 200);
        var cutouts = plan.For(40, 30);
        Assert.Equal(cutouts, new CutoutPlan(11, 200).For(40, 30));
        Assert.Equal(cutouts.Take(5), (plan with { Count = 5 }).For(40, 30));
        Assert.NotEqual(cutouts, (plan with { Step = 1 }).For(40, 30));
        Assert.NotEqual(cutouts, (plan with { Seed = 12 }).For(40, 30));
        Assert.All(cutouts, c => Assert.True(c.Side is >= 15 and <= 30 && c.Top >= 0 && c.Left >= 0 && c.Top + c.Side <= 40 && c.Left + c.Side <= 30));
        Assert.True(cutouts.Select(c => c.Side).Distinct().Count() > 10 && cutouts.Select(c => c.Top).Distinct().Count() > 10);
        Assert.True((plan with { Power = 4 }).For(40, 30).Average(c => c.Side) < cutouts.Average(c => c.Side));
        Assert.Throws<ArgumentException>(() => (plan with { MinimumSide = 0 }).For(4, 4));
        Assert.Throws<ArgumentException>(() => (plan with { Count = 0 }).For(4, 4));
    }

    /// <summary>The integers of seed 1, computed once more in Python: another version or machine that cuts elsewhere would break the repetition of runs.</summary>
    [Fact]
    public void Cutouts_OfSeedOne_AreTheRecordedOnes()
        => Assert.Equal("2,0,62 18,12,38 14,7,41", string.Join(" ", new CutoutPlan(1, 3, 2).For(64, 64).Select(c => $"{c.Top},{c.Left},{c.Side}")));
}
