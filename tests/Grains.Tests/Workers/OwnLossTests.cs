using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Losses;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;
using Microsoft.Extensions.DependencyInjection;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>Losses that a host brings, and what is kept of losses between the batches of a worker.</summary>
public sealed class OwnLossTests
{
    private static readonly string Models = Path.Combine(ReferenceFolder.Root(), "examples", "models");

    private static readonly ExperimentSpec Spec = new()
    {
        Model = new ModelSpec { Path = Path.Combine(Models, "digits8-dpm"), Dtype = NumberFormat.Float64 },
        Train = new TrainSpec { Target = TrainTarget.Noise },
        Sample = new SampleSpec { Steps = 2, Classes = [4] },
        Losses = [new LossSpec { Name = LossName.Custom, Loss = "brightness", Options = new Dictionary<string, string> { ["wanted"] = "0.25" } }],
        Training = new TrainingSpec { SamplesPerShard = 2, Shards = 1, Seed = 5 },
    };

    [Fact]
    public void Custom_IsMadeForEachBatch_ToldItsOptions_AndDisposed()
    {
        var (asked, disposed) = (new List<SampleLossRequest>(), 0);
        var services = new ServiceCollection().AddSampleLoss("brightness", request =>
        {
            asked.Add(request);
            return new Brightness(double.Parse(request.Options["wanted"], CultureInfo.InvariantCulture), () => disposed++);
        });
        using var provider = services.BuildServiceProvider();
        using var engine = new GradientEngineFactory(provider.GetServices<OwnLoss>()).Create("cpu:0");
        var plan = new TrialPlan(Spec, "");
        var start = engine.Prepare(plan, CancellationToken.None).Parameters;
        var at = engine.Differentiate(plan, new ParameterVersion(TensorReference.HashOf(start), start), 3, 0, CancellationToken.None);
        var request = Assert.Single(asked);
        Assert.Equal([4L, 4L], request.Labels);
        Assert.Equal((3u, 5ul, 1L), (request.Step, request.Seed, request.Channels));
        Assert.Equal(1, disposed);
        Assert.True(at.Sums["custom"] > 0);
        Assert.Contains(MemoryMarshal.Cast<byte, float>(at.Gradient).ToArray(), g => g != 0);
    }

    [Fact]
    public void Custom_ThatIsNotRegistered_IsNamedWithThoseThatAre()
    {
        using var engine = new GradientEngine("cpu:0", new OwnLosses([new OwnLoss("slant", _ => new TotalVariationLoss(VariationKind.Absolute))]));
        var plan = new TrialPlan(Spec, "");
        var start = engine.Prepare(plan, CancellationToken.None).Parameters;
        var error = Assert.Throws<InvalidDataException>(() => engine.Differentiate(plan, new ParameterVersion(TensorReference.HashOf(start), start), 0, 0, CancellationToken.None));
        Assert.Equal("losses[0] asks for the loss 'brightness', which this silo does not have. Its own are slant: register it with services.AddSampleLoss in the host of every silo (docs/losses.md).", error.Message);
        Assert.Throws<ArgumentException>(() => new OwnLosses([new("a", _ => null!), new("a", _ => null!)]));
    }

    [Fact]
    public void References_AreSeenOnce_UntilTheirFileOrTheNetworkChanges()
    {
        using var folder = new TemporaryFolder();
        var reference = folder["reference.png"];
        Write(reference, SkiaSharp.SKColors.Gray);
        var (judge, other) = (Path.Combine(Models, "digits8-classifier"), Path.Combine(Models, "digits8-classifier-heldout"));
        var spec = Spec with { Losses = [new LossSpec { Name = LossName.GramStyle, Classifier = judge, Reference = reference }, new LossSpec { Name = LossName.Content, Classifier = judge, Reference = reference, Resize = 4 }] };
        using var networks = new LossNetworks(CPU, OwnLosses.None);
        var (gram, content) = Loaded(spec);
        Assert.Same(gram, Loaded(spec).Gram);
        Assert.Same(content, Loaded(spec).Content);
        Write(reference, SkiaSharp.SKColors.White);
        File.SetLastWriteTimeUtc(reference, new DateTime(2030, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        var again = Loaded(spec).Gram;
        Assert.NotSame(gram, again);
        // What looks through a network goes with it.
        Assert.True(networks.Spare(spec with { Losses = [spec.Losses[0] with { Classifier = other }] }, ScalarType.Float32));
        Assert.NotSame(again, Loaded(spec).Gram);

        (SampleLoss Gram, SampleLoss Content) Loaded(ExperimentSpec of)
        {
            networks.Load(of, ScalarType.Float32);
            networks.LoadReferences(of, ScalarType.Float32, 1);
            return (networks.Compared(of.Losses[0], ScalarType.Float32, 1), networks.Compared(of.Losses[1], ScalarType.Float32, 1));
        }
    }

    [Fact]
    public async Task Sidecar_ThatFailedOnce_IsNotAskedFirstByTheNextBatch()
    {
        const string Silent = "http://silent:1/", Answering = "http://answering:2/";
        using var networks = new LossNetworks(CPU, OwnLosses.None);
        using var server = new RewardSidecarTests.Server((request, _) => request.RequestUri!.AbsoluteUri.StartsWith(Silent, StringComparison.Ordinal) ? throw new HttpRequestException("refused") : new(HttpStatusCode.OK) { Content = new ByteArrayContent([1]) });
        using var http = new HttpClient(server, disposeHandler: false);
        var loss = new LossSpec { Name = LossName.Sidecar, Addresses = [Silent, Answering] };
        for (var batch = 0; batch < 3; batch++)
            await networks.Sidecar(loss, http, TimeProvider.System).AskAsync([1], true, 10, TestContext.Current.CancellationToken);
        Assert.Equal(["silent", "answering", "answering", "answering"], server.Asked.Select(uri => uri.Host));
    }

    private static void Write(string path, SkiaSharp.SKColor colour)
    {
        using var bitmap = new SkiaSharp.SKBitmap(8, 8);
        bitmap.Erase(colour);
        bitmap.SetPixel(2, 3, SkiaSharp.SKColors.Black);
        using var file = File.Create(path);
        bitmap.Encode(file, SkiaSharp.SKEncodedImageFormat.Png, 100);
    }

    private sealed class Brightness(double wanted, Action disposed) : SampleLoss, IDisposable
    {
        public override Tensor PerSample(Tensor samples) => samples.mean([1, 2, 3]).sub(wanted).square();

        public void Dispose() => disposed();
    }
}
