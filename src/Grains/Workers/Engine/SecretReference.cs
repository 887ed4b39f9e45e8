using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Secrets that a spec refers to, where they are used: in no spec, state, log or report.</summary>
internal static class SecretReference
{
    /// <summary>The secret.</summary>
    /// <param name="reference">As in a spec: env:NAME.</param>
    /// <param name="variable">Environment of the silo.</param>
    /// <exception cref="InvalidDataException">The silo does not have it.</exception>
    public static string Read(string reference, Func<string, string?> variable)
    {
        var name = SecretRules.VariableOf(reference) ?? throw new InvalidDataException($"'{reference}' refers to no secret. Write env:{SecretRules.Prefix}NAME.");
        return variable(name) is { Length: > 0 } secret && !secret.Contains('\n', StringComparison.Ordinal) ? secret
            : throw new InvalidDataException($"The spec refers to the secret {name}, which the environment of this silo does not have. Set it for all silos.");
    }
}
