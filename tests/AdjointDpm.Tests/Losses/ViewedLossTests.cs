using AdjointDpm.Losses;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

public sealed class ViewedLossTests
{
    [Fact]
    public void PerSample_OfCutouts_IsTheMeanOverTheResizedParts()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        var (x, inner) = (rand(2, 3, 12, 10, dtype: float64), EveryLoss.Build("cross-entropy"));
        var plan = new CutoutPlan(Seed: 5, Count: 3, Step: 2);
        var expected = plan.For(12, 10).Select(c => inner.PerSample(ImageResize.To(x.narrow(2, c.Top, c.Side).narrow(3, c.Left, c.Side), 6, 6))).Aggregate((a, b) => a + b) / 3;
        Reference.Close(expected, new ViewedLoss(inner) { Side = 6, Cutouts = plan }.PerSample(x), "mean", 1e-12);
        // Another step cuts elsewhere.
        Assert.NotEqual(expected.data<double>().ToArray(), new ViewedLoss(inner) { Side = 6, Cutouts = plan with { Step = 3 } }.PerSample(x).data<double>().ToArray());
        Reference.Close(inner.PerSample(ImageResize.To(x, 6, 6)), new ViewedLoss(inner) { Side = 6 }.PerSample(x), "resized", 1e-12);
    }

    [Fact]
    public void PerSample_WithoutSideOrCutouts_IsTheInnerLoss()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        var (x, inner) = (rand(2, 3, 10, 10, dtype: float64), EveryLoss.Build("gram style"));
        Assert.Equal(inner.PerSample(x).data<double>().ToArray(), new ViewedLoss(inner).PerSample(x).data<double>().ToArray());
        // Parts come in the size of the whole, which a network of one size needs.
        Assert.Equal([2L], new ViewedLoss(new PixelDistanceLoss(zeros(1, 3, 10, 10, dtype: float64))) { Cutouts = new(1, 2) }.PerSample(x).shape);
    }
}
