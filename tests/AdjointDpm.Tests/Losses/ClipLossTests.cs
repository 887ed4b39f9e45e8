using AdjointDpm.Formats;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

public sealed class ClipLossTests
{
    [Fact]
    public void Similarity_ByHand_IsOneMinusTheCosine()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var model = EveryLoss.Clip(float64);
        var (x, wanted) = (randn(2, 3, 15, 20, dtype: float64), randn(2, 10, dtype: float64));
        using var loss = new ClipSimilarityLoss(model, wanted);
        var e = model.call(ImagePreparation.Clip(12).Apply(x));
        Reference.Close(1 - nn.functional.cosine_similarity(e, wanted, 1), loss.PerSample(x), "similarity", 1e-12);
        using var own = new ClipSimilarityLoss(model, e * 3);
        Assert.Equal(0, own.Mean(x).Number(), 1e-13);
        Assert.Throws<ArgumentException>(() => loss.PerSample(x[..1]));
        Assert.Contains("[B, 10]", Assert.Throws<ArgumentException>(() => new ClipSimilarityLoss(model, randn(2, 9))).Message, StringComparison.Ordinal);
        Assert.Contains("224 pixels", Assert.Throws<ArgumentException>(() => new ClipSimilarityLoss(model, wanted, ImagePreparation.Clip())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Similarity_OfCutouts_IsTheMeanOverThem()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        var model = EveryLoss.Clip(float64);
        var (x, wanted) = (randn(2, 3, 20, 16, dtype: float64), randn(1, 10, dtype: float64));
        using var loss = new ClipSimilarityLoss(model, wanted);
        var plan = new CutoutPlan(4, 3);
        var each = plan.For(20, 16).Select(c => loss.PerSample(x.narrow(2, c.Top, c.Side).narrow(3, c.Left, c.Side))).ToArray();
        loss.Cutouts = plan;
        Reference.Close(stack(each).mean([0]), loss.PerSample(x), "mean over cutouts", 1e-12);
        var before = loss.Mean(x).Number();
        loss.Cutouts = plan with { Step = 1 };
        Assert.NotEqual(before, loss.Mean(x).Number());
    }

    [Fact]
    public void TextEmbedding_NeedsTheProjection()
    {
        using var scope = NewDisposeScope();
        var config = new ClipTextConfig { Architectures = ["CLIPTextModelWithProjection"], HiddenSize = 8, IntermediateSize = 16, ProjectionDim = 10, NumHiddenLayers = 1, NumAttentionHeads = 2 };
        using var model = new ClipTextModel(config);
        var tokenizer = ClipTokenizer.Load(ReferenceFolder.Of("clip_tokenizer"));
        using var bare = new ClipTextModel(config with { Architectures = ["CLIPTextModel"] });
        Assert.Contains("CLIPTextModelWithProjection", Assert.Throws<ArgumentException>(() => ClipSimilarityLoss.TextEmbedding(bare, tokenizer, "a fox")).Message, StringComparison.Ordinal);
        var embedding = ClipSimilarityLoss.TextEmbedding(model, tokenizer, "a fox");
        Assert.Equal([1L, 10], embedding.shape);
        Assert.False(embedding.requires_grad);
    }

    [Fact]
    public void Gram_ByHand_IsTheDistanceOfPatchesGramMatrices()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        var model = EveryLoss.Clip(float64);
        var (reference, x) = (randn(2, 3, 12, 12, dtype: float64), randn(2, 3, 12, 12, dtype: float64));
        Tensor Gram(Tensor images)
        {
            var f = model.States(ImagePreparation.Clip(12).Apply(images), 2)[.., 1..];
            return einsum("bpc,bpd->bcd", f, f);
        }

        var wanted = Gram(reference).mean([0], keepdim: true);
        var squares = (Gram(x) - wanted).Squared().sum([1, 2]);
        using var relative = new ClipGramLoss(model, reference, 2);
        using var norm = new ClipGramLoss(model, reference, 2, GramDistance.Norm);
        Reference.Close(squares / wanted.Squared().sum(), relative.PerSample(x), "relative", 1e-12);
        Reference.Close(squares.sqrt(), norm.PerSample(x), "norm", 1e-12);
        Assert.Contains("1..3", Assert.Throws<ArgumentException>(() => new ClipGramLoss(model, reference, 4)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void States_OfTheLastLayer_LeadToTheEmbedding()
    {
        using var scope = NewDisposeScope();
        var model = EveryLoss.Clip(float64);
        var pixels = randn(2, 3, 12, 12, dtype: float64);
        var parameters = model.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        var last = nn.functional.layer_norm(model.States(pixels, 3).select(1, 0), [24], parameters["vision_model.post_layernorm.weight"], parameters["vision_model.post_layernorm.bias"], 1e-5);
        Reference.Close(model.call(pixels), last.matmul(parameters["visual_projection.weight"].t()), "embedding", 1e-12);
        Assert.Equal([2L, 10, 24], model.States(pixels, 0).shape);
        Assert.Throws<ArgumentException>(() => model.States(pixels, 4));
    }

    [Fact]
    public void Aesthetic_FileOfFiveLayersOrOfOneVector_IsTheSameScore()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        manual_seed(4);
        long[] widths = [10, 32, 16, 8, 4, 1];
        int[] names = [0, 2, 4, 6, 7];
        var tensors = names.SelectMany((n, i) => new[] { ($"layers.{n}.weight", randn(widths[i + 1], widths[i])), ($"layers.{n}.bias", randn(widths[i + 1])) }).ToDictionary(t => t.Item1, t => t.Item2);
        SafetensorsWriter.Write(folder["laion.safetensors"], tensors);
        using var deep = AestheticHead.Load(folder["laion.safetensors"]);
        var e = ClipViews.Unit(randn(3, 10, dtype: float64));
        var h = e;
        foreach (var n in names)
            h = h.matmul(tensors[$"layers.{n}.weight"].to(float64).t()) + tensors[$"layers.{n}.bias"].to(float64);
        Reference.Close(h.squeeze(1), deep.Score(e), "five layers", 1e-12);

        var vector = randn(1, 10);
        SafetensorsWriter.Write(folder["vector.safetensors"], new Dictionary<string, Tensor> { ["weight"] = vector, ["bias"] = full([1], 5.25f) });
        using var flat = AestheticHead.Load(folder["vector.safetensors"]);
        Reference.Close(e.matmul(vector[0].to(float64)) + 5.25, flat.Score(e), "vector", 1e-12);
        Assert.Equal(5.25, flat.Bias);
        Assert.Equal(10, flat.Width);

        SafetensorsWriter.Write(folder["two.safetensors"], new Dictionary<string, Tensor> { ["weight"] = randn(2, 10) });
        Assert.Contains("2 numbers", Assert.Throws<SafetensorsException>(() => AestheticHead.Load(folder["two.safetensors"])).Message, StringComparison.Ordinal);
        SafetensorsWriter.Write(folder["odd.safetensors"], new Dictionary<string, Tensor> { ["layers.0.weight"] = randn(4, 10), ["layers.2.weight"] = randn(1, 5) });
        Assert.Contains("does not fit", Assert.Throws<SafetensorsException>(() => AestheticHead.Load(folder["odd.safetensors"])).Message, StringComparison.Ordinal);
        Assert.Contains("width 9", Assert.Throws<ArgumentException>(() => flat.Score(randn(2, 9))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Aesthetic_LossIsMinusTheScoreOrItsDistanceToATarget()
    {
        using var scope = NewDisposeScope();
        manual_seed(5);
        var model = EveryLoss.Clip(float64);
        using var head = AestheticHead.Of(randn(10), 5);
        var x = randn(2, 3, 12, 12, dtype: float64);
        var score = head.Score(ClipViews.Unit(model.call(ImagePreparation.Clip(12).Apply(x))));
        Reference.Close(-score, new AestheticLoss(model, head).PerSample(x), "score", 1e-12);
        Reference.Close((score - 10).abs(), new AestheticLoss(model, head, 10).PerSample(x), "distance", 1e-12);
        using var other = AestheticHead.Of(randn(9), 5);
        Assert.Throws<ArgumentException>(() => new AestheticLoss(model, other));
    }
}
