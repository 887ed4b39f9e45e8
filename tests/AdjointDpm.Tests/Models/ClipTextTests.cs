using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class ClipTextTests
{
    /// <summary>Against <c>Reference/clip_text/make.py</c>: PyTorch's own attention, OpenAI's activation and old pooling, OpenCLIP's activation and a projection.</summary>
    [Theory]
    [InlineData("quick_gelu")]
    [InlineData("gelu_projection")]
    public void Encode_ReferenceWeights_StatesAndEveryGradientAreThose(string name)
    {
        using var scope = NewDisposeScope();
        var folder = Path.Combine(ReferenceFolder.Of("clip_text"), name);
        using var model = new ClipTextModel(ClipTextConfig.Read(Path.Combine(folder, "config.json")));
        ModuleWeights.Load(model, Path.Combine(folder, "model.safetensors"));
        using var io = SafetensorsFile.Open(Path.Combine(folder, "io.safetensors"));
        var ids = io.Read("ids");
        var states = model.Encode(ids);
        Assert.Equal(model.Config.NumHiddenLayers + 1, states.HiddenStates.Count);
        Reference.Close(io.Read("last_hidden_state"), states.LastHiddenState, "last");
        Reference.Close(io.Read("penultimate"), states.HiddenStates[^2], "penultimate");
        Reference.Close(io.Read("pooled"), states.Pooled, "pooled");
        Assert.True(model.Normalise(states.HiddenStates[^1]).Equals(states.LastHiddenState));

        Tensor[] cotangents = [io.Read("cotangent.last"), io.Read("cotangent.penultimate"), io.Read("cotangent.pooled")];
        autograd.backward([states.LastHiddenState, states.HiddenStates[^2], states.Pooled], cotangents, inputs: [.. model.parameters()]);
        Reference.CloseGradients(model, Path.Combine(folder, "param_grads.safetensors"));

        var words = model.TokenEmbeddings.detach()[ids].requires_grad_();
        var again = model.Encode(ids, words);
        autograd.backward([again.LastHiddenState, again.HiddenStates[^2], again.Pooled], cotangents, inputs: [words]);
        Reference.Close(io.Read("grad.embeddings"), words.grad!, "embeddings");
    }

    [Fact]
    public void Encode_LaterTokens_DoNotChangeEarlierStates()
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        manual_seed(8);
        using var model = new ClipTextModel(new ClipTextConfig { VocabSize = 20, HiddenSize = 12, IntermediateSize = 24, NumHiddenLayers = 2, NumAttentionHeads = 3, MaxPositionEmbeddings = 8 });
        var one = model.call(tensor(new[] { 1L, 5, 9, 3, 3 }).unsqueeze(0));
        var two = model.call(tensor(new[] { 1L, 5, 9, 7 }).unsqueeze(0));
        Assert.True(one[.., ..3].allclose(two[.., ..3], 1e-5, 1e-6));
        Assert.False(one[.., 3].allclose(two[.., 3]));
        Assert.Contains("9 tokens", Assert.Throws<ArgumentException>(() => model.call(zeros(1, 9, dtype: int64))).Message, StringComparison.Ordinal);
        Assert.Contains("num_attention_heads 5", Assert.Throws<ModelConfigException>(() => new ClipTextModel(model.Config with { NumAttentionHeads = 5 })).Message, StringComparison.Ordinal);
        Assert.Contains("hidden_act 'tanh'", Assert.Throws<ModelConfigException>(() => new ClipTextModel(model.Config with { HiddenAct = "tanh" })).Message, StringComparison.Ordinal);
    }
}
