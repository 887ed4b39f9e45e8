using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Commands;

namespace AdjointDpm.Client.Tests.Commands;

public sealed class InitCommandTests : IDisposable
{
    private readonly Adpm _adpm = new();

    public static TheoryData<string> Names => [.. Recipes.All.Select(recipe => recipe.Name)];

    public void Dispose() => _adpm.Dispose();

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Init_WritesTheRecipe_ToStandardOutputOrAFile(string name)
    {
        Assert.Equal(ExitCodes.Ok, await _adpm.RunAsync($"init {name}"));
        Assert.Equal(Recipes.Read(name), _adpm.Out.ToString());
        Assert.Equal(ExitCodes.Ok, await _adpm.RunAsync($"init {name} deep/own.yaml"));
        Assert.Equal(Recipes.Read(name), await File.ReadAllTextAsync(At("deep/own.yaml"), TestContext.Current.CancellationToken));
        Assert.Contains("then: adpm run deep/own.yaml", _adpm.Error.ToString());
    }

    [Fact]
    public async Task Init_DoesNotWriteOverAFile_UnlessTold()
    {
        await File.WriteAllTextAsync(At("own.yaml"), "mine", TestContext.Current.CancellationToken);
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("init guide own.yaml"));
        Assert.Contains("'own.yaml' is there already.", _adpm.Error.ToString());
        Assert.Equal("mine", await File.ReadAllTextAsync(At("own.yaml"), TestContext.Current.CancellationToken));
        Assert.Equal(ExitCodes.Ok, await _adpm.RunAsync("init guide own.yaml --force"));
        Assert.Equal(Recipes.Read("guide"), await File.ReadAllTextAsync(At("own.yaml"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Init_OfSomethingElse_ListsTheRecipes()
    {
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync("init stilize"));
        Assert.Contains("'guide'", _adpm.Error.ToString().ReplaceLineEndings(" "));
    }

    private string At(string name) => Path.Combine(_adpm.Folder, name);
}
