using System.Text.Json;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Tests.Commands;

public sealed class CheckCommandTests : IDisposable
{
    private readonly Adpm _adpm = new();
    private readonly string _spec;

    public CheckCommandTests()
    {
        _spec = SpecFiles.Write(_adpm.Folder);
        var silo = Path.Combine(_adpm.Folder, "bin", "silo");
        Directory.CreateDirectory(silo);
        File.WriteAllText(Path.Combine(silo, "AdjointDpm.Silo.dll"), "");
        _adpm.Cluster.OnSubmit = (id, _) => Samples.Ended(id);
        _adpm.Cluster.Events.AddRange(Samples.Events());
        _adpm.Cluster.Proof = Samples.Proof();
    }

    public void Dispose() => _adpm.Dispose();

    [Fact]
    public async Task Check_ThatHolds_ShowsTheProof_AndLeavesNothingBehind()
    {
        Assert.Equal(0, await _adpm.RunAsync($"check {_spec} --steps 3"));
        Verified.Equal(_adpm.Text("check stylize.yaml --steps 3", 0), "check");
        var silos = Assert.Single(_adpm.Silos);
        Assert.Equal((true, true, 1), (silos.Started, silos.Stopped, silos.Options.Silos));
        Assert.False(Directory.Exists(silos.Options.DataFolder));
        Assert.False(Directory.Exists(Path.Combine(_adpm.Folder, "runs")));
    }

    [Fact]
    public async Task Check_AsksForTheProofAlone_OfOneTrial()
    {
        Assert.Equal(0, await _adpm.RunAsync($"check {_spec} --samples 2 --steps 3 --set gradient.method=store-all"));
        var asked = ExperimentSpecJson.Deserialize(_adpm.Cluster.LastSpec);
        Assert.Equal((ProofMode.Only, 2, 3, GradientName.StoreAll), (asked.Gradient.Check.Mode, asked.Gradient.Check.Samples, asked.Gradient.Check.Steps, asked.Gradient.Method));
        Assert.Empty(asked.Parameters);
    }

    [Fact]
    public async Task Check_ThatDoesNotHold_NamesWhatDoesNot_AndExitsWith4()
    {
        _adpm.Cluster.Proof = Samples.Proof() with { Passed = false, Exact = false, Method = "continuous", Findings = ["mid_block: cosine 0.6699 and norm ratio 1 to the unrolled gradient; at least 0.99 and 0.9 to 1.1 are asked for."] };
        Assert.Equal(ExitCodes.NotProven, await _adpm.RunAsync($"check {_spec} --gateway 127.0.0.1:1"));
        Verified.Equal(_adpm.Text("check stylize.yaml --gateway 127.0.0.1:1", 4), "check-failed");
        Assert.Empty(_adpm.Silos);
    }

    [Fact]
    public async Task Check_Json_IsOneDocument_ThatHoldsNaN()
    {
        _adpm.Cluster.Proof = Samples.Proof() with { Passed = false, Groups = [new("x_T", double.NaN, 0, 1)] };
        Assert.Equal(ExitCodes.NotProven, await _adpm.RunAsync($"check {_spec} --json"));
        using var json = JsonDocument.Parse(_adpm.Out.ToString());
        Assert.Equal("adjointdpm.dev/gradient-proof/v1", json.RootElement.GetProperty("schema").GetString());
        var proof = json.RootElement.GetProperty("proof");
        Assert.Equal((false, "NaN"), (proof.GetProperty("passed").GetBoolean(), proof.GetProperty("groups")[0].GetProperty("cosine").GetString()));
    }

    [Fact]
    public async Task Check_ThatCannotBeMade_SaysWhy()
    {
        _adpm.Cluster.Proof = null;
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync($"check {_spec}"));
        Assert.Contains("error: The loss became NaN at step 5, first in unet.mid_block.resnets.0.conv1. Lower the learning rate.", _adpm.Error.ToString());
    }

    [Theory]
    [InlineData("--samples 0", "--samples must be from 1 to 1024.")]
    [InlineData("--steps 1001", "--steps must be from 1 to 1000.")]
    [InlineData("--set gradient.method=reversible", "gradient.method reversible undoes the sampler's steps, which ddim cannot.")]
    public async Task Check_WrongUsage_Exits2(string options, string expected)
    {
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync($"check {_spec} {options}"));
        Assert.Contains(expected, _adpm.Error.ToString().Replace('\n', ' '));
        Assert.Empty(_adpm.Silos);
    }

    [Fact]
    public async Task Show_TellsWhichTrialsAreProven()
    {
        var ended = Samples.Ended();
        var proof = Samples.Proof().Summary();
        _adpm.Cluster.Experiments[ended.Summary.Id] = ended with
        {
            Trials = [ended.Trials[0] with { Proof = proof, LeanFrom = 3 }, ended.Trials[1] with { Proof = proof }, ended.Trials[2] with { Proof = proof with { Method = "continuous", Exact = false, Passed = false, Finding = "mid_block: cosine 0.67." } }],
        };
        Assert.Equal(0, await _adpm.RunAsync("show stylize"));
        Assert.Contains("✓ Gradient discrete proven in trials 0, 1: within 1.3e-16 of the unrolled gradient, and finite differences agree\n! Gradient continuous in trial 2: mid_block: cosine 0.67.\n! Trial 0: A worker ran out of memory. From step 3 on gradients are computed one sample at a time.\n", _adpm.Out.ToString());
    }
}
