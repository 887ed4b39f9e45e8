using AdjointDpm.Formats;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Clip;

/// <summary>transformers' <c>CLIPTextModel</c> and <c>CLIPTextModelWithProjection</c>: the text encoders of Stable Diffusion 1, 2 and XL.</summary>
/// <remarks>Parameter names are transformers' own. Radford et al. (2021). Differentiable in its parameters and in token embeddings passed instead of looked up.</remarks>
public sealed class ClipTextModel : nn.Module<Tensor, Tensor>
{
    private readonly TextTransformer text_model;
    private readonly Linear? text_projection;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    /// <exception cref="ModelConfigException">The configuration contradicts itself or names an activation that is not supported.</exception>
    public ClipTextModel(ClipTextConfig config)
        : base(nameof(ClipTextModel))
    {
        Config = config;
        text_model = new TextTransformer(config);
        text_projection = config.Projects ? Layers.Linear(config.HiddenSize, config.ProjectionDim, hasBias: false) : null;
        RegisterComponents();
    }

    /// <summary>What the network was built from.</summary>
    public ClipTextConfig Config { get; }

    /// <summary>Loads a folder's <c>config.json</c> and <c>model.safetensors</c>, in float32 on the CPU, without gradients of its own. Tensors of CLIP's vision part are passed over.</summary>
    /// <param name="folder">Folder of a CLIPTextModel or CLIPTextModelWithProjection.</param>
    /// <exception cref="ModelConfigException">The configuration is missing, malformed or for another model.</exception>
    /// <exception cref="SafetensorsException">The weights are missing or do not fit. Nothing stays loaded.</exception>
    public static ClipTextModel Load(string folder)
    {
        var config = ClipTextConfig.Read(Path.Combine(folder, "config.json"));
        return ClipNames.Tower(folder, () => new ClipTextModel(config), other: "visual");
    }

    /// <summary>The table of token embeddings, [vocabulary, width].</summary>
    public Parameter TokenEmbeddings => text_model.TokenTable;

    /// <summary>The normalised last states, [B, N, width], for token ids [B, N], int64.</summary>
    public override Tensor forward(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return Encode(ids).LastHiddenState.MoveToOuterDisposeScope();
    }

    /// <summary>Runs the encoder.</summary>
    /// <param name="ids">Token ids [B, N], int64; N at most the configuration's max_position_embeddings.</param>
    /// <param name="embeddings">Token embeddings [B, N, width] in place of the table's, for words that are being learnt. Default: the table's.</param>
    /// <returns>All states, in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">The text is too long.</exception>
    public ClipTextStates Encode(Tensor ids, Tensor? embeddings = null)
    {
        if (ids.shape[^1] > Config.MaxPositionEmbeddings)
            throw new ArgumentException($"The text has {ids.shape[^1]} tokens, but the encoder knows {Config.MaxPositionEmbeddings} positions. Shorten it.", nameof(ids));
        using var scope = NewDisposeScope();
        var states = text_model.Run(embeddings ?? text_model.Look(ids));
        var last = text_model.Normalise(states[^1]);
        var rows = arange(ids.shape[0], device: ids.device);
        var pooled = last.index(TensorIndex.Tensor(rows), TensorIndex.Tensor(EndOfText(ids)));
        return new(
            [.. states.Select(s => s.MoveToOuterDisposeScope())],
            last.MoveToOuterDisposeScope(),
            (text_projection is null ? pooled : text_projection.call(pooled)).MoveToOuterDisposeScope());
    }

    /// <summary>Applies the final normalisation to the states of an earlier layer, as Stable Diffusion 1 does when it skips layers.</summary>
    public Tensor Normalise(Tensor states) => text_model.Normalise(states);

    // The first end token; the largest token in files of old releases, whose configuration says 2.
    private Tensor EndOfText(Tensor ids)
    {
        if (Config.EosTokenId is null or 2)
            return ids.argmax(-1);
        using var end = tensor((long)Config.EosTokenId, device: ids.device);
        return ids.eq(end).to(int32).argmax(-1);
    }
}

/// <summary>What a text encoder computes for token ids [B, N].</summary>
/// <param name="HiddenStates">The embeddings, then the output of every layer, each [B, N, width], not normalised.</param>
/// <param name="LastHiddenState">The last layer's output, normalised: what Stable Diffusion 1 and 2 are conditioned on.</param>
/// <param name="Pooled">The normalised state of the end token, projected where the network projects: [B, width] or [B, projection_dim].</param>
public sealed record ClipTextStates(IReadOnlyList<Tensor> HiddenStates, Tensor LastHiddenState, Tensor Pooled);

/// <summary>transformers' <c>CLIPTextTransformer</c>.</summary>
internal sealed class TextTransformer : nn.Module
{
    private readonly TextEmbeddings embeddings;
    private readonly ClipEncoder encoder;
    private readonly LayerNorm final_layer_norm;

    public TextTransformer(ClipTextConfig config)
        : base(nameof(TextTransformer))
    {
        embeddings = new TextEmbeddings(config);
        encoder = new ClipEncoder(LayerShape.Of(config), config.NumHiddenLayers);
        final_layer_norm = nn.LayerNorm(config.HiddenSize, config.LayerNormEps);
        RegisterComponents();
    }

    public Parameter TokenTable => embeddings.Table;

    public Tensor Look(Tensor ids) => embeddings.Look(ids);

    public List<Tensor> Run(Tensor tokens) => encoder.Run(embeddings.AddPositions(tokens));

    public Tensor Normalise(Tensor states) => final_layer_norm.call(states);
}

/// <summary>transformers' <c>CLIPTextEmbeddings</c>: a table of tokens and one of positions.</summary>
internal sealed class TextEmbeddings : nn.Module
{
    private readonly Embedding token_embedding;
    private readonly Embedding position_embedding;

    public TextEmbeddings(ClipTextConfig config)
        : base(nameof(TextEmbeddings))
    {
        token_embedding = Layers.Embedding(config.VocabSize, config.HiddenSize);
        position_embedding = Layers.Embedding(config.MaxPositionEmbeddings, config.HiddenSize);
        RegisterComponents();
    }

    public Parameter Table => token_embedding.weight!;

    public Tensor Look(Tensor ids) => token_embedding.call(ids);

    public Tensor AddPositions(Tensor tokens) => tokens.Plus(position_embedding.weight!.narrow(0, 0, tokens.shape[1]));
}
