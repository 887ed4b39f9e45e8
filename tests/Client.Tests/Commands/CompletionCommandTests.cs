using System.Diagnostics;

namespace AdjointDpm.Client.Tests.Commands;

public sealed class CompletionCommandTests : IDisposable
{
    private readonly Adpm _adpm = new();

    public void Dispose() => _adpm.Dispose();

    /// <summary>The script in a real shell, with the program beside these tests.</summary>
    [Theory]
    [InlineData("adpm re", "replay report resume retry")]
    [InlineData("adpm workers d", "drain")]
    [InlineData("adpm run x.yaml --si", "--silos")]
    public async Task Bash_Completes(string line, string expected)
    {
        Assert.Equal(0, await _adpm.RunAsync("completion bash"));
        var program = Path.Combine(AppContext.BaseDirectory, "adpm.dll");
        var script = $$"""
            adpm() { dotnet '{{program}}' "$@"; }
            {{_adpm.Out}}
            COMP_LINE='{{line}}'; COMP_POINT=${#COMP_LINE}; COMP_WORDS=({{line}}); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _adpm; echo "${COMPREPLY[@]}"
            """;
        using var bash = Process.Start(new ProcessStartInfo("bash", ["-c", script]) { RedirectStandardOutput = true })!;
        var said = await bash.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await bash.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(expected, said.Trim());
    }

    [Theory]
    [InlineData("show dig", "digits-0a1b2c3d digits-1a2b3c4d")]
    [InlineData("show digits-0a1b2c3d/", "digits-0a1b2c3d/0 digits-0a1b2c3d/10 digits-0a1b2c3d/2")]
    [InlineData("watch x", "")]
    [InlineData("report other --data elsewhere fa", "far-00000000")]
    public async Task Ids_AreThoseOfTheDataFolder(string line, string expected)
    {
        foreach (var folder in new[] { "runs/experiments/digits-0a1b2c3d", "runs/trials/digits-1a2b3c4d/0", "runs/trials/digits-0a1b2c3d/0", "runs/trials/digits-0a1b2c3d/10", "runs/trials/digits-0a1b2c3d/2", "elsewhere/experiments/far-00000000" })
            Directory.CreateDirectory(Path.Combine(_adpm.Folder, folder));
        Assert.Equal(0, await _adpm.SuggestAsync(line));
        Assert.Equal(expected, string.Join(' ', _adpm.Out.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries)));
        Assert.Empty(_adpm.Connected);
    }

    [Fact]
    public async Task UnknownShell_IsRefusedWithTheKnownOnes()
    {
        Assert.Equal(2, await _adpm.RunAsync("completion csh"));
        Assert.Contains("'bash'", _adpm.Error.ToString(), StringComparison.Ordinal);
    }
}
