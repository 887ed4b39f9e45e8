using AdjointDpm.Formats;
using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Formats;

public sealed class ModuleWeightsTests
{
    [Fact]
    public void Load_WhatWasSaved_IsEqualInAnotherDtype()
    {
        using var folder = new TemporaryFolder();
        using var saved = nn.Linear(3, 2);
        using var loaded = nn.Linear(3, 2, dtype: float64);
        ModuleWeights.Save(saved, folder["w"]);
        ModuleWeights.Load(loaded, folder["w"]);
        Assert.True(saved.weight!.to(float64).Equals(loaded.weight!));
        Assert.True(loaded.weight!.requires_grad);
        using var file = SafetensorsFile.Open(folder["w"]);
        Assert.Equal("pt", file.Metadata["format"]);
    }

    [Fact]
    public void Load_ShapeThatWouldBroadcast_IsRefusedAndNothingChanges()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var module = nn.Linear(3, 2);
        var before = module.weight!.detach().clone();
        SafetensorsWriter.Write(folder["w"], new Dictionary<string, Tensor> { ["weight"] = zeros(2, 3), ["bias"] = zeros(1) });
        var e = Assert.Throws<SafetensorsException>(() => ModuleWeights.Load(module, folder["w"]));
        Assert.Contains("bias: file [1], network [2]", e.Message, StringComparison.Ordinal);
        Assert.True(before.Equals(module.weight!));
    }

    [Fact]
    public void Load_OtherNames_ListsMissingAndUnexpected()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var module = nn.Linear(3, 2);
        SafetensorsWriter.Write(folder["w"], new Dictionary<string, Tensor> { ["weight"] = zeros(2, 3), ["gain"] = zeros(2) });
        var e = Assert.Throws<SafetensorsException>(() => ModuleWeights.Load(module, folder["w"]));
        Assert.Contains("Missing (1): bias.", e.Message, StringComparison.Ordinal);
        Assert.Contains("Unexpected (1): gain.", e.Message, StringComparison.Ordinal);
        ModuleWeights.Load(module, folder["w"], name => name == "gain" ? "bias" : name);
        Assert.Equal(0, module.bias!.abs().sum().Number());
    }

    [Fact]
    public void Load_TwoNamesForOneTarget_IsRefused()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var module = nn.Linear(3, 2, hasBias: false);
        SafetensorsWriter.Write(folder["w"], new Dictionary<string, Tensor> { ["weight"] = zeros(2, 3), ["weight_copy"] = zeros(2, 3) });
        var e = Assert.Throws<SafetensorsException>(() => ModuleWeights.Load(module, folder["w"], _ => "weight"));
        Assert.Equal("weight_copy", e.Tensor);
    }

    [Fact]
    public void Load_SplitByAnIndex_ReadsEveryFile()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var module = nn.Linear(3, 2);
        SafetensorsWriter.Write(folder["1.safetensors"], new Dictionary<string, Tensor> { ["weight"] = ones(2, 3) });
        SafetensorsWriter.Write(folder["2.safetensors"], new Dictionary<string, Tensor> { ["bias"] = ones(2) });
        File.WriteAllText(folder["w.safetensors.index.json"], """{"metadata":{"total_size":32},"weight_map":{"weight":"1.safetensors","bias":"2.safetensors"}}""");
        ModuleWeights.Load(module, folder["w.safetensors.index.json"]);
        Assert.Equal(8, module.parameters().Sum(p => p.sum().Number()));
    }

    [Theory]
    [InlineData("""{"weight_map":{"weight":"../1.safetensors"}}""", "own folder")]
    [InlineData("""{"weight_map":{"bias":"1.safetensors"}}""", "does not hold it")]
    [InlineData("""{"weight_map":{"weight":"3.safetensors"}}""", "no such file")]
    [InlineData("""{"weights":{}}""", "weight_map")]
    [InlineData("""{""", "weight_map")]
    public void Load_BrokenIndex_SaysWhatIsWrong(string index, string expected)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var module = nn.Linear(3, 2);
        SafetensorsWriter.Write(folder["1.safetensors"], new Dictionary<string, Tensor> { ["weight"] = ones(2, 3) });
        File.WriteAllText(folder["w.safetensors.index.json"], index);
        Assert.Contains(expected, Assert.Throws<SafetensorsException>(() => ModuleWeights.Load(module, folder["w.safetensors.index.json"])).Message, StringComparison.Ordinal);
    }
}
