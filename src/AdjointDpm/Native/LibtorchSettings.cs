using System.Runtime.InteropServices;

namespace AdjointDpm.Native;

/// <summary>Switches of a loaded libtorch that TorchSharp does not reach, thrown through the symbols that libtorch exports.</summary>
internal static unsafe class LibtorchSettings
{
    // at::globalContext(), at::Context::setUserEnabledNNPACK(bool) and setUserEnabledMkldnn(bool).
    private const string GlobalContext = "_ZN2at13globalContextEv", Nnpack = "_ZN2at7Context20setUserEnabledNNPACKEb", Mkldnn = "_ZN2at7Context20setUserEnabledMkldnnEb";

    /// <summary>Lets convolutions use NNPACK, or keeps them from it.</summary>
    /// <returns>False where libtorch has no such switch.</returns>
    public static bool UseNnpack(bool use) => Set(Nnpack, use);

    /// <summary>Lets convolutions and half-precision products use oneDNN, or keeps them from it.</summary>
    /// <returns>False where libtorch has no such switch.</returns>
    public static bool UseOneDnn(bool use) => Set(Mkldnn, use);

    private static bool Set(string setter, bool value)
    {
        if (!OperatingSystem.IsLinux() || NativeTorch.LoadedPath("libtorch_cpu.so") is not { } path || !NativeLibrary.TryLoad(path, out var library)
            || !NativeLibrary.TryGetExport(library, GlobalContext, out var context) || !NativeLibrary.TryGetExport(library, setter, out var set))
            return false;
        ((delegate* unmanaged[Cdecl]<nint, byte, void>)set)(((delegate* unmanaged[Cdecl]<nint>)context)(), (byte)(value ? 1 : 0));
        return true;
    }
}
