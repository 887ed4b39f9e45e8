using AdjointDpm.Samplers;

namespace AdjointDpm.Silo.Tools;

/// <summary>The samplers of this program by the names that sd-scripts and web interfaces have for them.</summary>
internal static class SamplerNames
{
    private static readonly Dictionary<string, string> Others = new(StringComparer.Ordinal)
    {
        ["euler"] = "ddim",
        ["euler_a"] = "ddpm",
        ["pndm"] = "plms",
        ["dpm_2"] = "dpm2",
        ["dpmsolver"] = "dpm-2m",
        ["dpmsolver++"] = "dpm++2m",
        ["dpm++_2m"] = "dpm++2m",
        ["dpmsingle"] = "dpm++2s",
        ["unipc"] = "unipc2",
    };

    /// <summary>The name here; null for none, and where there is no such sampler.</summary>
    public static string? Find(string? name)
    {
        if (name is null)
            return null;
        var plain = name.Trim().ToLowerInvariant().Replace(' ', '_');
        plain = plain.StartsWith("k_", StringComparison.Ordinal) ? plain[2..] : plain;
        plain = Others.GetValueOrDefault(plain, plain);
        return Sampler.Known.Any(s => s.Name == plain) ? plain : null;
    }
}
