using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Unet;
using AdjointDpm.Tests.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class FolderTests
{
    private static readonly SchedulerConfig Scheduler = new() { BetaEnd = 0.03, TimestepSpacing = "trailing" };

    [Fact]
    public void DiffusersFolder_AfterSave_LoadsEqualNetworkAndScheduler()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = new UNet2DModel(new UNet2DConfig
        {
            BlockOutChannels = [8],
            DownBlockTypes = ["DownBlock2D"],
            UpBlockTypes = ["UpBlock2D"],
            NormNumGroups = 4,
            LayersPerBlock = 1,
        });
        model.eval();
        DiffusersFolder.Save(folder.Path, model, Scheduler);
        var opened = DiffusersFolder.Open(folder.Path);
        Assert.Equal("UNet2DModel", opened.UnetClass);
        Assert.Equal(Scheduler, opened.ReadScheduler());
        Assert.Contains("\"UNet2DModel\"", File.ReadAllText(folder["model_index.json"]), StringComparison.Ordinal);
        using var frozen = no_grad();
        using var loaded = opened.LoadUNet2D();
        var x = randn(1, 3, 8, 8);
        Assert.True(model.forward(x, tensor(7L)).Equals(loaded.forward(x, tensor(7L))));

        var direct = DiffusersFolder.Open(folder["unet"]);
        using var again = direct.LoadUNet2D();
        Assert.Contains("scheduler_config.json", Assert.Throws<ModelConfigException>(() => direct.ReadScheduler()).Message, StringComparison.Ordinal);
        Assert.Contains("UNet2DConditionModel", Assert.Throws<ModelConfigException>(() => opened.LoadUNet2DCondition()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Folders_Missing_AreNamed()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains(folder["none"], Assert.Throws<ModelConfigException>(() => DiffusersFolder.Open(folder["none"])).Message, StringComparison.Ordinal);
        Assert.Contains("config.json", Assert.Throws<ModelConfigException>(() => DiffusersFolder.Open(folder.Path)).Message, StringComparison.Ordinal);
        Assert.Contains(folder["none"], Assert.Throws<ModelConfigException>(() => ClassifierFolder.Load(folder["none"])).Message, StringComparison.Ordinal);
        Assert.Contains("config.json", Assert.Throws<ModelConfigException>(() => ClassifierFolder.Load(folder.Path)).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["config.json"], """{"_class_name":"ConvClassifier"}""");
        Assert.Contains("model.safetensors", Assert.Throws<SafetensorsException>(() => ClassifierFolder.Load(folder.Path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("conv", 28)]
    [InlineData("conv", 8)]
    [InlineData("residual", 28)]
    [InlineData("residual", 8)]
    public void Classifier_SavedAndLoaded_IsEqualFrozenAndDifferentiableInTheImage(string architecture, int size)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        manual_seed(1);
        using ImageClassifier classifier = architecture == "conv"
            ? new ConvClassifier(new ConvClassifierConfig { SampleSize = size, Channels = [4, 8] })
            : new ResidualClassifier(new ResidualClassifierConfig { Channels = [8, 8], StemStride = size == 8 ? 1 : 2 });
        classifier.eval();
        ClassifierFolder.Save(classifier, folder.Path);
        using var loaded = ClassifierFolder.Load(folder.Path);

        var x = randn(2, 1, size, size).requires_grad_();
        Assert.Equal(10, loaded.Classes);
        Assert.True(classifier.Logits(x).Equals(loaded.Logits(x)));
        Assert.All(loaded.parameters(), p => Assert.False(p.requires_grad));
        var features = loaded.Features(x);
        Assert.Equal(loaded.Layers, features.Keys);
        loaded.Logits(x).sum().backward();
        Assert.True(x.grad!.abs().max().Number() > 0);
    }
}
