using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Unet;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

[Collection(nameof(Alone))]
public sealed class GarbageCollectionTests
{
    private const int Rounds = 60;

    /// <summary>TorchSharp frees scalars that a native call still reads when the collector runs at the wrong moment; networks and losses must give it none.</summary>
    [Fact]
    public void NetworksAndLosses_CollectedAllTheTime_GiveTheSameGradient()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        using var unet = new UNet2DModel(new UNet2DConfig
        {
            InChannels = 1,
            OutChannels = 1,
            BlockOutChannels = [8, 8],
            DownBlockTypes = ["DownBlock2D", "AttnDownBlock2D"],
            UpBlockTypes = ["AttnUpBlock2D", "UpBlock2D"],
            LayersPerBlock = 1,
            NormNumGroups = 4,
        });
        using var classifier = new ResidualClassifier(new ResidualClassifierConfig { Channels = [8], StemStride = 1 });
        using var style = new GramStyleLoss(classifier, randn(1, 1, 8, 8));
        using var label = new CrossEntropyLoss(classifier, 3);
        var loss = new WeightedLoss((0.5, style), (2, label));
        unet.eval();
        var (x, t) = (randn(2, 1, 8, 8), tensor(250.0));
        var seed = ones([]);

        using var collector = new BusyCollector();
        var (_, first) = Vjp.Of(y => loss.Mean(unet.forward(y, t)), x, seed);
        for (var i = 0; i < Rounds; i++)
        {
            using var inner = NewDisposeScope();
            var (_, again) = Vjp.Of(y => loss.Mean(unet.forward(y, t)), x, seed);
            Assert.True(first.Equals(again), $"round {i}: differs by {first.sub(again).abs().max().Number():e2}");
        }
    }
}
