using System.Runtime.InteropServices;

namespace AdjointDpm.Native;

/// <summary>While it lives, TorchScript runs on this thread operation by operation, as written.</summary>
/// <remarks>
/// Otherwise libtorch watches the first runs and then runs a rewritten graph with derivatives of its own: the same numbers rounded otherwise (measured: the gradient's last
/// bits change at the second run), so that a step computed again by another process would have other bits. TorchSharp has no switch for it; libtorch exports one for C++, a flag of
/// the thread. Where its name is another (not Linux), nothing is switched.
/// </remarks>
internal readonly unsafe ref struct PlainTorchScript : IDisposable
{
    private static readonly delegate* unmanaged<byte> Optimises = (delegate* unmanaged<byte>)Export("_ZN5torch3jit24getGraphExecutorOptimizeEv");
    private static readonly delegate* unmanaged<byte, void> Optimise = (delegate* unmanaged<byte, void>)Export("_ZN5torch3jit24setGraphExecutorOptimizeEb");

    private readonly byte _before;

    private PlainTorchScript(byte before) => _before = before;

    /// <summary>Whether the switch was found.</summary>
    public static bool IsSupported => Optimises is not null && Optimise is not null;

    public static PlainTorchScript Begin()
    {
        if (!IsSupported)
            return default;
        var before = Optimises();
        Optimise(0);
        return new(before);
    }

    public void Dispose()
    {
        if (IsSupported)
            Optimise(_before);
    }

    private static nint Export(string name)
    {
        NativeTorch.EnsureLoaded();
        return OperatingSystem.IsLinux() && NativeLibrary.TryLoad("libtorch_cpu.so", out var library) && NativeLibrary.TryGetExport(library, name, out var address) ? address : 0;
    }
}
