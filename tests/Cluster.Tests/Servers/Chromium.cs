using Microsoft.Playwright;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>Debian's Chromium without a window, driven by Playwright.</summary>
internal sealed class Chromium : IAsyncDisposable
{
    // Not the script of the same name in /usr/bin, which looks for settings of the machine.
    private const string Program = "/usr/lib/chromium/chromium";
    private readonly IPlaywright _playwright;
    private readonly IBrowser _browser;

    private Chromium(IPlaywright playwright, IBrowser browser) => (_playwright, _browser) = (playwright, browser);

    public static async Task<Chromium> StartAsync()
    {
        var packages = await DebianPackages.WithAsync(Program, "chromium", "fonts-dejavu-core");
        var variables = Environment.GetEnvironmentVariables().Cast<System.Collections.DictionaryEntry>().ToDictionary(pair => (string)pair.Key, pair => (string?)pair.Value ?? "");
        foreach (var (name, value) in packages.Variables)
            variables[name] = value;
        if (packages.Root is { } root)
        {
            // Fonts are looked for where the machine would have them.
            var fonts = Path.Combine(Path.GetDirectoryName(root)!, "fonts.conf");
            await File.WriteAllTextAsync(fonts, $"<?xml version=\"1.0\"?><!DOCTYPE fontconfig SYSTEM \"urn:fontconfig:fonts.dtd\"><fontconfig><dir>{root}/usr/share/fonts</dir><cachedir>{Path.GetDirectoryName(root)}/fonts</cachedir></fontconfig>", TestContext.Current.CancellationToken);
            variables["FONTCONFIG_FILE"] = fonts;
        }
        var playwright = await Playwright.CreateAsync();
        // Its sandbox needs rights that a test does not have; the pages are our own.
        var browser = await playwright.Chromium.LaunchAsync(new() { ExecutablePath = packages.PathOf(Program), Args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"], Env = variables });
        return new Chromium(playwright, browser);
    }

    /// <summary>A page of its own, that fails the test with what it writes to its console.</summary>
    public async Task<IPage> OpenAsync(int width, int height, List<string> console, ColorScheme colors = ColorScheme.Light)
    {
        var page = await (await _browser.NewContextAsync(new() { ViewportSize = new() { Width = width, Height = height }, ColorScheme = colors })).NewPageAsync();
        page.Console += (_, message) =>
        {
            if (message.Type is "error" or "warning")
                console.Add(message.Text);
        };
        page.PageError += (_, error) => console.Add(error);
        return page;
    }

    public async ValueTask DisposeAsync()
    {
        await _browser.DisposeAsync();
        _playwright.Dispose();
    }
}
