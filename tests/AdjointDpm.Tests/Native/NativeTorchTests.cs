using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
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

    [Fact]
    public void ArithmeticKind_IsTheDevicesAlone()
    {
        var kind = ArithmeticKind.Of("cpu:0")!;
        Assert.Matches($"^[0-9a-f]{{{ArithmeticKind.Length}}}$", kind);
        Assert.Equal(kind, ArithmeticKind.Of("cpu:7"));
        Assert.Equal(kind, ArithmeticKind.Compute(torch.CPU));
        if (!torch.cuda.is_available())
            Assert.Null(ArithmeticKind.Of("cuda:0"));
    }

    /// <summary>A run is the same run wherever its numbers happen to lie in memory.</summary>
    [Fact]
    public void Computations_DoneAgainElsewhereInMemory_HaveTheSameBits() => Repeats(torch.ScalarType.Float32);

    /// <summary>So it is in float64, in a process that asks for it when it loads libtorch: this test, in one of its own.</summary>
    [Fact]
    public async Task ComputationsInFloat64_DoneAgainElsewhereInMemory_HaveTheSameBits_WhereThatIsAskedFor()
    {
        if (Environment.GetEnvironmentVariable(NativeTorch.RepeatableVariable) == "1")
        {
            Repeats(torch.ScalarType.Float64);
            return;
        }
        Assert.SkipUnless(OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.X64, "Elsewhere libtorch has no MKL.");
        var start = new ProcessStartInfo("dotnet", [typeof(NativeTorchTests).Assembly.Location, "-method", $"*.{nameof(ComputationsInFloat64_DoneAgainElsewhereInMemory_HaveTheSameBits_WhereThatIsAskedFor)}"]) { RedirectStandardOutput = true };
        start.Environment[NativeTorch.RepeatableVariable] = "1";
        using var own = Process.Start(start)!;
        var said = await own.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await own.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(own.ExitCode == 0 && said.Contains("Total: 1, Errors: 0, Failed: 0, Skipped: 0", StringComparison.Ordinal), said);
    }

    private static void Repeats(torch.ScalarType dtype)
    {
        var first = Hashes();
        for (var round = 1; round <= 20; round++)
        {
            using var scope = torch.NewDisposeScope();
            // Holes of other sizes: what follows lies elsewhere.
            var held = Enumerable.Range(0, 50).Select(i => torch.empty(17 * round + 129 * i)).ToList();
            foreach (var one in held.Where((_, i) => i % 3 != 0))
                one.Dispose();
            Assert.Equal(first, Hashes());
        }

        List<string> Hashes()
        {
            using var scope = torch.NewDisposeScope();
            return [.. ConvolutionCheck.Results(torch.CPU, dtype).Concat(ArithmeticKind.Results(torch.CPU, dtype)).Select((result, i) => $"{i} {Convert.ToHexStringLower(SHA256.HashData(result.detach().contiguous().bytes))[..12]}")];
        }
    }

    /// <summary>On whatever machine the tests run: by oneDNN where it is right, else without it.</summary>
    [Fact]
    public void Convolutions_OnThisMachine_AreThoseOfFloat64()
    {
        var report = NativeTorch.EnsureLoaded();
        Assert.Null(ConvolutionCheck.Worst());
        Assert.True(report.Convolutions is null || report.Convolutions.Contains("oneDNN", StringComparison.Ordinal), report.Convolutions);
    }
}
