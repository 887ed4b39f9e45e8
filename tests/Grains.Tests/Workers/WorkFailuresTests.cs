using AdjointDpm.Grains.Tests.Cluster;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class WorkFailuresTests
{
    [Theory]
    [InlineData("CUDA out of memory. Tried to allocate 20.00 MiB.")]
    [InlineData("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 281474976710656 bytes. Error code 12 (Cannot allocate memory)")]
    [InlineData("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")]
    [InlineData("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]
    [InlineData("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED")]
    [InlineData("unable to mmap 1024 bytes from file <weights>: Cannot allocate memory (12)")]
    [InlineData("std::bad_alloc")]
    public void WhatAllocatorsSay_IsOutOfMemory(string message)
    {
        Assert.True(WorkFailures.Of(new NativeException(message)) is { OutOfMemory: true, Permanent: false });
        Assert.True(WorkFailures.Of(new IOException(message)).OutOfMemory);
    }

    [Theory]
    [InlineData("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), InlineData("The size of tensor a (3) must match the size of tensor b (4)"), InlineData("No space left on device")]
    public void OtherErrors_AreNot(string message) => Assert.False(WorkFailures.Of(new NativeException(message)).OutOfMemory);
}
