namespace AdjointDpm.Models.Unet;

/// <summary>The names of attention parameters in files of older diffusers releases.</summary>
internal static class AttentionNames
{
    private static readonly (string Old, string New)[] Renamed = [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];

    /// <summary>The present name of a tensor; null for one that repeats another and is passed over.</summary>
    public static string? Current(string name)
    {
        // GaussianFourierProjection stores its frequencies twice.
        if (name == "time_proj.W")
            return null;
        foreach (var (old, current) in Renamed)
        {
            if (name.Contains(old, StringComparison.Ordinal))
                return name.Replace(old, current, StringComparison.Ordinal);
        }

        return name;
    }
}
