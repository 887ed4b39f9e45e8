using System.Runtime.CompilerServices;

namespace AdjointDpm.Tests.Models;

/// <summary>Finds reference data in the source tree, so that nothing is copied to the output.</summary>
internal static class ReferenceFolder
{
    public static string Of(string name) => Path.Combine(Root(), "tests", "AdjointDpm.Tests", "Reference", name);

    /// <summary>Root of the repository.</summary>
    public static string Root([CallerFilePath] string here = "") => Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "..", "..", ".."));
}
