using AdjointDpm.Client.CommandLine;

namespace AdjointDpm.Client.LocalCluster;

/// <summary>How a silo is started: a program and what comes before the silo's own arguments.</summary>
internal sealed record SiloCommand(string Program, IReadOnlyList<string> Arguments)
{
    public const string Variable = "ADJOINTDPM_SILO";

    private const string Assembly = "AdjointDpm.Silo.dll";

    /// <summary>The silo's assembly.</summary>
    public string File => Arguments.Count > 0 ? Arguments[^1] : Program;

    /// <summary>ADJOINTDPM_SILO, else beside this program in <c>silo/</c>, else where a build of the repository puts it.</summary>
    public static SiloCommand Find(Func<string, string?> variable, string programFolder)
    {
        if (variable(Variable) is { Length: > 0 } given)
        {
            var file = Directory.Exists(given) ? Path.Combine(given, Assembly) : given;
            return System.IO.File.Exists(file) ? Of(file, variable)
                : throw new CommandFailure(ExitCodes.Failed, $"{Variable} names '{given}', but there is no such file.", $"Set it to the path of {Assembly}.");
        }

        var places = Places(programFolder);
        return places.FirstOrDefault(System.IO.File.Exists) is { } found ? Of(found, variable)
            : throw new CommandFailure(ExitCodes.Failed, $"The silo was not found. Looked for {string.Join(" and ", places.Select(place => $"'{place}'"))}.", $"Set {Variable} to the path of {Assembly}.");
    }

    private static List<string> Places(string programFolder)
    {
        var folder = new DirectoryInfo(programFolder);
        var places = new List<string> { Path.Combine(folder.FullName, "silo", Assembly) };
        if (folder.Parent?.Parent is { } bin) places.Add(Path.Combine(bin.FullName, "Silo", folder.Name, Assembly));
        return places;
    }

    private static SiloCommand Of(string file, Func<string, string?> variable)
    {
        file = Path.GetFullPath(file);
        return Path.GetExtension(file) == ".dll" ? new SiloCommand(DotnetHost(variable), [file]) : new SiloCommand(file, []);
    }

    /// <summary>The host that runs us when it is the plain one, else the one that the environment names, else the one on the path.</summary>
    private static string DotnetHost(Func<string, string?> variable)
    {
        if (Environment.ProcessPath is { } self && Path.GetFileNameWithoutExtension(self) == "dotnet") return self;
        if (variable("DOTNET_HOST_PATH") is { Length: > 0 } host && System.IO.File.Exists(host)) return host;
        if (variable("DOTNET_ROOT") is { Length: > 0 } root && Path.Combine(root, OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet") is var inRoot && System.IO.File.Exists(inRoot)) return inRoot;
        return "dotnet";
    }
}
