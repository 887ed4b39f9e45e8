using AdjointDpm.Formats;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Tests.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Learnt words and embeddings of prompts as files.</summary>
public sealed class EmbeddingFileTests
{
    [Fact]
    public void Word_InEveryDialect_IsTheSameInPrompts()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        using var word = new TextualInversion("<fox>", [randn(2, 12)]);
        word.WriteDiffusers(folder["learned_embeds.safetensors"]);
        word.WriteWebUi(folder["fox.safetensors"]);
        using var diffusers = TextualInversion.Read(folder["learned_embeds.safetensors"]);
        using var web = TextualInversion.Read(folder["fox.safetensors"]);
        Assert.Equal(("<fox>", "fox"), (diffusers.Token, web.Token));
        Tensor? first = null;
        foreach (var read in new[] { diffusers, web })
        {
            using var model = TinyModels.Make("SD1");
            model.AddWord(read.Token, read.Embeddings);
            using var prompt = model.Encode([$"a photo of {read.Token}"]);
            first ??= prompt.States.clone();
            Assert.True(first.Equals(prompt.States));
        }
    }

    [Fact]
    public void Word_OfXl_IsAPair()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var word = new TextualInversion("fox", [randn(1, 12), randn(1, 16)]);
        word.WriteWebUi(folder["fox.safetensors"]);
        using var read = TextualInversion.Read(folder["fox.safetensors"]);
        using var model = TinyModels.Make("SDXL");
        model.AddWord(read.Token, read.Embeddings);
        Assert.True(word.Embeddings.Zip(read.Embeddings).All(p => p.First.Equals(p.Second)));
        Assert.Contains("SDXL's pair", Assert.Throws<SafetensorsException>(() => word.WriteDiffusers(folder["a"])).Message, StringComparison.Ordinal);
        using var small = TinyModels.Make("SD1");
        Assert.Contains("text encoders", Assert.Throws<ArgumentException>(() => small.AddWord(read.Token, read.Embeddings)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Word_SingleVector_IsOneToken()
    {
        using var folder = new TemporaryFolder();
        using var vector = randn(12);
        SafetensorsWriter.Write(folder["a"], new Dictionary<string, Tensor> { ["<fox>"] = vector });
        using var read = TextualInversion.Read(folder["a"], "cat");
        Assert.Equal("cat", read.Token);
        Assert.Equal([1L, 12], read.Embeddings[0].shape);
    }

    [Fact]
    public void Files_OfSomethingElse_AreNamed()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        SafetensorsWriter.Write(folder["many"], new Dictionary<string, Tensor> { ["a"] = ones(1), ["b"] = ones(1) });
        Assert.Contains("2 tensors", Assert.Throws<SafetensorsException>(() => TextualInversion.Read(folder["many"])).Message, StringComparison.Ordinal);
        Assert.Contains("prompt_embeds", Assert.Throws<SafetensorsException>(() => PromptEmbeddings.Read(folder["many"])).Message, StringComparison.Ordinal);
        SafetensorsWriter.Write(folder["image"], new Dictionary<string, Tensor> { ["a"] = ones(1, 2, 3) });
        Assert.Contains("[1, 2, 3]", Assert.Throws<SafetensorsException>(() => TextualInversion.Read(folder["image"])).Message, StringComparison.Ordinal);
        SafetensorsWriter.Write(folder["flat"], new Dictionary<string, Tensor> { ["prompt_embeds"] = ones(2, 3) });
        Assert.Contains("[2, 3]", Assert.Throws<SafetensorsException>(() => PromptEmbeddings.Read(folder["flat"])).Message, StringComparison.Ordinal);
        // What torch.save writes.
        File.WriteAllBytes(folder["fox.pt"], [0x50, 0x4B, 0x03, 0x04, 0, 0, 8, 8, .. new byte[100]]);
        Assert.Contains("pickle", Assert.Throws<SafetensorsException>(() => TextualInversion.Read(folder["fox.pt"])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("SD1")]
    [InlineData("SDXL")]
    public void Prompt_AfterWriting_ReadsBackBitForBit(string kind)
    {
        using var folder = new TemporaryFolder();
        using var frozen = no_grad();
        using var model = TinyModels.Make(kind);
        using var prompt = model.Encode(["a cat", "a red square"]);
        prompt.Write(folder["a"], new Dictionary<string, string> { ["prompt"] = "a cat" });
        using var read = PromptEmbeddings.Read(folder["a"]);
        Assert.True(prompt.States.Equals(read.States));
        Assert.True(prompt.Pooled is null ? read.Pooled is null : prompt.Pooled.Equals(read.Pooled!));
    }
}
