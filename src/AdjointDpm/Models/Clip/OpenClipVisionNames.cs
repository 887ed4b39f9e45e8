using AdjointDpm.Formats;
using AdjointDpm.Models.StableDiffusion;

namespace AdjointDpm.Models.Clip;

/// <summary>OpenCLIP's names and forms of the vision tower's tensors.</summary>
internal static class OpenClipVisionNames
{
    public const string Prefix = "visual.";

    public static WeightEntry Of(string name)
    {
        // Layers are named as those of texts.
        var layer = SingleFileNames.OfOpenClip(name, Prefix);
        var (theirs, form) = name.Split('.') switch
        {
            [_, "embeddings", "class_embedding"] => ("class_embedding", WeightForm.Same),
            [_, "embeddings", "patch_embedding", var kind] => ($"conv1.{kind}", WeightForm.Same),
            [_, "embeddings", "position_embedding", _] => ("positional_embedding", WeightForm.Same),
            [_, "pre_layrnorm", var kind] => ($"ln_pre.{kind}", WeightForm.Same),
            [_, "post_layernorm", var kind] => ($"ln_post.{kind}", WeightForm.Same),
            ["visual_projection", _] => ("proj", WeightForm.Transposed),
            _ => (layer.Theirs[Prefix.Length..], layer.Form),
        };
        return new(name, Prefix + theirs, form);
    }
}
