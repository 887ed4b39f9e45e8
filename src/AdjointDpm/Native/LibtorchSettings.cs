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

    /// <summary>Makes the products of MKL, which lies inside libtorch, give the same bits wherever their numbers lie in memory: docs/decisions/0006-products-repeat.md. Before the first of them.</summary>
    /// <returns>Whether MKL took it; false where libtorch has no MKL, or one without the switch.</returns>
    public static bool UseRepeatableProducts()
    {
        // mkl_cbwr_set and mkl_cbwr_get_auto_branch, with MKL_CBWR_AUTO, and MKL_CBWR_STRICT for branches that know it.
        const int Auto = 2, Strict = 0x10000;
        if (!TryLoad(out var library) || !NativeLibrary.TryGetExport(library, "mkl_serv_cbwr_set", out var set) || !NativeLibrary.TryGetExport(library, "mkl_serv_cbwr_get_auto_branch", out var get))
            return false;
        var use = (delegate* unmanaged[Cdecl]<int, int>)set;
        return use(((delegate* unmanaged[Cdecl]<int>)get)() | Strict) == 0 || use(Auto) == 0;
    }

    private static bool Set(string setter, bool value)
    {
        if (!TryLoad(out var library) || !NativeLibrary.TryGetExport(library, GlobalContext, out var context) || !NativeLibrary.TryGetExport(library, setter, out var set))
            return false;
        ((delegate* unmanaged[Cdecl]<nint, byte, void>)set)(((delegate* unmanaged[Cdecl]<nint>)context)(), (byte)(value ? 1 : 0));
        return true;
    }

    private static bool TryLoad(out nint library)
    {
        library = 0;
        return OperatingSystem.IsLinux() && NativeTorch.LoadedPath("libtorch_cpu.so") is { } path && NativeLibrary.TryLoad(path, out library);
    }
}
