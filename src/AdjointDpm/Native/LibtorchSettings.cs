using System.Runtime.InteropServices;

namespace AdjointDpm.Native;

/// <summary>Settings of a loaded libtorch that TorchSharp does not reach, made through the symbols that libtorch exports.</summary>
/// <remarks>docs/decisions/0003-zero-filled-memory.md has what was seen without them. Where a symbol is missing nothing is done.</remarks>
internal static unsafe class LibtorchSettings
{
    // Global flags of c10, under plain names: they are made to be set from outside.
    private const string ZeroFillFlag = "FLAGS_caffe2_cpu_allocator_do_zero_fill";

    // at::globalContext() and at::Context::setUserEnabledNNPACK(bool).
    private const string GlobalContext = "_ZN2at13globalContextEv", SetNnpack = "_ZN2at7Context20setUserEnabledNNPACKEb";

    /// <summary>Makes every tensor on the CPU begin as zeros.</summary>
    /// <remarks>
    /// oneDNN 3.7 multiplies channels that only fill up a block by weights that are zero, and does not set them first: what lies in that
    /// memory shows when it is a NaN or an infinity. A convolution with 1, 3 or 4 channels, the last one of every UNet and decoder, then gives NaN.
    /// </remarks>
    /// <returns>False where libtorch has no such flag.</returns>
    public static bool ZeroFill()
    {
        if (Export("libc10.so", ZeroFillFlag) is not { } flag)
            return false;
        *(byte*)flag = 1;
        return true;
    }

    /// <summary>Keeps convolutions from NNPACK, which only some processors have: elsewhere every one of them writes a warning.</summary>
    /// <returns>False where libtorch has no such switch.</returns>
    public static bool AvoidNnpack()
    {
        if (Export("libtorch_cpu.so", GlobalContext) is not { } context || Export("libtorch_cpu.so", SetNnpack) is not { } set)
            return false;
        ((delegate* unmanaged[Cdecl]<nint, byte, void>)set)(((delegate* unmanaged[Cdecl]<nint>)context)(), 0);
        return true;
    }

    private static nint? Export(string library, string symbol) =>
        NativeTorch.LoadedPath(library) is { } path && NativeLibrary.TryLoad(path, out var handle) && NativeLibrary.TryGetExport(handle, symbol, out var address) ? address : null;
}
