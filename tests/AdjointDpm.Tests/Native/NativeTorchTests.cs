using System.Runtime.CompilerServices;
using AdjointDpm.Native;
using TorchSharp;

namespace AdjointDpm.Tests.Native;

public sealed class NativeTorchTests
{
#pragma warning disable CA2255 // Tests use tensors before they touch the library.
    [ModuleInitializer]
    internal static void Load()
    {
        NativeTorch.EnsureLoaded();
        // Tests run side by side on tensors too small to share out: threads of libtorch's own only get in each other's way.
        torch.set_num_threads(1);
    }
#pragma warning restore CA2255

    [Fact]
    public void EnsureLoaded_Twice_GivesTheSameReport()
    {
        var first = NativeTorch.EnsureLoaded();
        Assert.Same(first, NativeTorch.EnsureLoaded());
        Assert.True(torch.TryInitializeDeviceType(DeviceType.CPU));
    }

    [Fact]
    public void EnsureLoaded_HostWithOldCxxRuntime_LoadsAPrivateCopyAndSaysSo()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Only Linux has the version table.");
        var report = NativeTorch.EnsureLoaded();
        if (report.Note is null)
        {
            Assert.Contains(AppContext.BaseDirectory, report.Shim!, StringComparison.Ordinal);
            return;
        }

        Assert.DoesNotContain(AppContext.BaseDirectory, report.Shim!, StringComparison.Ordinal);
        Assert.Contains(report.Shim!, report.Note, StringComparison.Ordinal);
        Assert.Contains("GLIBCXX", report.Note, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', report.Note);
    }

    /// <summary>oneDNN reads channels that fill up a block and that nobody has set: the last convolution of a UNet or decoder would give what lay in memory before.</summary>
    [Theory]
    [InlineData(2, 32, 1, 8)]
    [InlineData(5, 3, 8, 5)]
    [InlineData(2, 32, 3, 16)]
    [InlineData(10, 1, 32, 28)]
    [InlineData(10, 32, 32, 28)]
    public void Convolution_OverMemoryFullOfNaN_IsFinite(int batch, int channels, int outputs, int size)
    {
        if (OperatingSystem.IsLinux())
            Assert.True(NativeTorch.EnsureLoaded().ZeroFills);
        using var scope = torch.NewDisposeScope();
        using var convolution = torch.nn.Conv2d(channels, outputs, 3, padding: 1);
        var x = torch.randn([batch, channels, size, size]).requires_grad_();
        for (var round = 0; round < 20; round++)
        {
            // What is freed is given out again.
            foreach (var litter in Enumerable.Range(0, 12).Select(i => torch.full([64L << i], float.NaN)).ToList())
                litter.Dispose();
            using var fresh = torch.empty([batch, 16, size, size]);
            Assert.Equal(0, fresh.count_nonzero().ToInt64());
            var y = convolution.call(x);
            AdjointDpm.Gradients.Vjp.Accumulate(y, torch.ones_like(y), x, convolution.weight!);
            Assert.All([y, x.grad!, convolution.weight!.grad!], tensor => Assert.True(tensor.isfinite().all().ToBoolean()));
        }
    }
}
