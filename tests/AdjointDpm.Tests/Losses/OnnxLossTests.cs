using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Losses.Onnx;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

public sealed class OnnxLossTests
{
    private static readonly string Folder = ReferenceFolder.Of("losses");

    // The exporter writes attributes and some constants, such as an epsilon of 1e-5, in single precision; the last two have none that this rounds.
    [Theory]
    [InlineData("resnet", 2, 1e-12)]
    [InlineData("mobilenet", null, 1e-7)]
    [InlineData("clip", null, 1e-7)]
    [InlineData("clip9", null, 1e-7)]
    [InlineData("others", null, 1e-12)]
    [InlineData("written", null, 1e-12)]
    public void Forward_ScoreAndGradient_ArePyTorchs(string name, int? column, double tolerance)
    {
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "onnx.safetensors"));
        // Where a file has no number in double precision, single is the default.
        using var loss = OnnxLoss.Load(Path.Combine(Folder, name + ".onnx"), column, maximise: false).To(CPU, float64);
        var samples = golden.Read(name + ".x") * 2 - 1;
        var cotangent = golden.Read(name + ".cotangent");
        var (value, gradient) = Vjp.Of(loss.PerSample, samples, column is { } c ? cotangent.select(1, c) : cotangent);
        var y = golden.Read(name + ".y");
        Reference.Close(column is { } k ? y.select(1, k) : y, value, "score", tolerance);
        Reference.Close(golden.Read(name + ".gradient") / 2, gradient, "gradient", tolerance);
        Reference.Close(value, loss.To(CPU, float32).PerSample(samples).to(float64), "single precision", 1e-5);
    }

    [Theory]
    [InlineData("resnet", 1)]
    [InlineData("mobilenet", null)]
    [InlineData("clip", null)]
    public void Check_ImportedRewards_Pass(string name, int? column)
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        using var loss = OnnxLoss.Load(Path.Combine(Folder, name + ".onnx"), column);
        var report = RewardCheck.Run(loss, rand(3, 3, 12, 12, dtype: float64) * 1.8 - 0.9);
        Assert.Empty(report.Problems);
        Assert.True(report.Deterministic);
    }

    /// <summary>Every operator that the library says it imports is in one of the files that are compared with PyTorch.</summary>
    [Fact]
    public void Operators_AreAllCompared()
    {
        using var scope = NewDisposeScope();
        var seen = new[] { "resnet", "mobilenet", "clip", "clip9", "others", "written" }.SelectMany(name => OnnxFile.Read(Path.Combine(Folder, name + ".onnx")).Nodes.Select(n => n.Kind)).ToHashSet();
        Assert.Equal([], OnnxLoss.Operators.Where(name => !seen.Contains(name)));
    }

    [Fact]
    public void PerSample_LeavesNoTensorBehind()
    {
        using var scope = NewDisposeScope();
        using var loss = OnnxLoss.Load(Path.Combine(Folder, "clip.onnx"));
        var x = rand(2, 3, 12, 12, dtype: float64);
        Step();
        var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        Step();
        Assert.Equal(before, DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);

        void Step()
        {
            var (value, gradient) = Vjp.Of(loss.PerSample, x, null);
            value.Dispose();
            gradient.Dispose();
        }
    }

    [Fact]
    public void Load_WhatIsNotImported_IsNamed()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var message = Assert.Throws<InvalidDataException>(() => OnnxLoss.Load(Path.Combine(Folder, "ranked.onnx"))).Message;
        Assert.Contains("not imported: ArgMax, Det.", message, StringComparison.Ordinal);
        Assert.Contains("no ONNX file", Assert.Throws<InvalidDataException>(() => OnnxLoss.Load(Path.Combine(Folder, "reward.pt"))).Message, StringComparison.Ordinal);
        var whole = File.ReadAllBytes(Path.Combine(Folder, "resnet.onnx"));
        foreach (var length in new[] { 1, 10, 1000, whole.Length - 100, whole.Length - 1 })
        {
            File.WriteAllBytes(folder["cut.onnx"], whole[..length]);
            Assert.Throws<InvalidDataException>(() => OnnxLoss.Load(folder["cut.onnx"]));
        }

        // Any byte changed: read, or refused with a sentence; nothing else.
        var random = new Random(5);
        for (var i = 0; i < 300; i++)
        {
            var bytes = whole.ToArray();
            bytes[random.Next(i % 2 == 0 ? 600 : bytes.Length)] = (byte)random.Next(256);
            File.WriteAllBytes(folder["odd.onnx"], bytes);
            try
            {
                using var odd = OnnxLoss.Load(folder["odd.onnx"]);
                odd.PerSample(zeros(1, 3, 17, 18));
            }
            catch (InvalidDataException error)
            {
                Assert.Contains(".onnx", error.Message, StringComparison.Ordinal);
            }
        }

        Assert.Throws<FileNotFoundException>(() => OnnxLoss.Load(folder["none.onnx"]));
        using var resnet = OnnxLoss.Load(Path.Combine(Folder, "resnet.onnx"));
        Assert.Contains("shape [2, 4] for 2 pictures", Assert.Throws<InvalidDataException>(() => resnet.PerSample(zeros(2, 3, 17, 18))).Message, StringComparison.Ordinal);
        Assert.Contains("Conv '/stem/Conv' cannot be computed for pictures [2, 1, 17, 18]", Assert.Throws<InvalidDataException>(() => resnet.PerSample(zeros(2, 1, 17, 18))).Message, StringComparison.Ordinal);
        using var far = OnnxLoss.Load(Path.Combine(Folder, "resnet.onnx"), column: 4);
        Assert.Contains("no column 4", Assert.Throws<InvalidDataException>(() => far.PerSample(zeros(2, 3, 17, 18))).Message, StringComparison.Ordinal);
    }
}
