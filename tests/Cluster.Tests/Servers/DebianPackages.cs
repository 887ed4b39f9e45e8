using System.Diagnostics;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>Programs of Debian packages: the machine's own where installed, else unpacked into a folder of the build, without root and without installing anything.</summary>
internal sealed class DebianPackages
{
    private static readonly SemaphoreSlim One = new(1);
    private readonly string? _root;

    private DebianPackages(string? root) => _root = root;

    /// <summary>Finds a program, or unpacks the package that has it.</summary>
    /// <param name="program">Absolute path on a machine where the package is installed.</param>
    /// <param name="package">Name of the package.</param>
    /// <param name="more">Packages that it does not ask for and needs all the same.</param>
    public static async Task<DebianPackages> WithAsync(string program, string package, params string[] more)
    {
        if (File.Exists(program))
            return new DebianPackages(null);
        if (!File.Exists("/usr/bin/apt-get"))
            Assert.Skip($"'{program}' is not on this machine and there is no apt-get to fetch package '{package}' with. Install it to run this test.");
        var folder = Path.Combine(Repository.Root, "artifacts", "servers", package);
        var packages = new DebianPackages(Path.Combine(folder, "root"));
        await One.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            if (File.Exists(packages.PathOf(program)))
                return packages;
            using var fetch = Process.Start(new ProcessStartInfo("bash", [Path.Combine(Repository.Root, "tests", "Cluster.Tests", "Servers", "fetch.sh"), folder, package, .. more]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
            var (said, error) = (fetch.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), fetch.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
            await fetch.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.True(fetch.ExitCode == 0 && File.Exists(packages.PathOf(program)), $"Package '{package}' could not be fetched:\n{await said}\n{await error}");
            return packages;
        }
        finally
        {
            One.Release();
        }
    }

    /// <summary>Runs a program in the foreground and returns its process.</summary>
    /// <param name="program">Absolute path on a machine where the package is installed.</param>
    /// <param name="unprivileged">Whether it refuses to run as root: then it runs as nobody.</param>
    /// <param name="arguments">Its arguments.</param>
    public Process Start(string program, bool unprivileged, params string[] arguments)
    {
        var start = new ProcessStartInfo { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (name, value) in Variables)
            start.Environment[name] = value;
        string[] command = [.. unprivileged && Environment.IsPrivilegedProcess ? AsNobody : [], PathOf(program), .. arguments];
        start.FileName = command[0];
        foreach (var argument in command[1..])
            start.ArgumentList.Add(argument);
        return Process.Start(start)!;
    }

    /// <summary>Root of what was unpacked; null where the machine's own is used.</summary>
    public string? Root => _root;

    /// <summary>What a program needs to find its libraries.</summary>
    public Dictionary<string, string> Variables => _root is null || !Directory.Exists(Path.Combine(_root, "usr", "lib"))
        ? []
        : new Dictionary<string, string> { ["LD_LIBRARY_PATH"] = string.Join(':', Directory.GetDirectories(Path.Combine(_root, "usr", "lib"), "*-linux-gnu*").SelectMany(folder => Directory.GetDirectories(folder).Prepend(folder))) };

    /// <summary>Runs a program to its end, which must be a success.</summary>
    /// <returns>What it printed.</returns>
    public async Task<string> RunAsync(string program, params string[] arguments)
    {
        using var process = Start(program, unprivileged: false, arguments);
        var (said, error) = (process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)} ended with code {process.ExitCode}:\n{await said}\n{await error}");
        return await said;
    }

    public static string[] AsNobody { get; } = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

    /// <summary>Where a program is.</summary>
    public string PathOf(string program) => _root is null ? program : _root + program;
}
