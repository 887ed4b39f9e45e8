// How do I train with a loss that is a class of my own? A silo with the loss in it, which adpm runs in place of the usual one:
// dotnet build samples/silo/own-loss.cs -o out && ADJOINTDPM_SILO=out/own-loss.dll adpm run samples/silo/own-loss.yaml
#:project ../../src/Silo/Silo.csproj
#:property PublishAot=false
using AdjointDpm.Losses;
using AdjointDpm.Silo;
using Microsoft.Extensions.DependencyInjection;
using TorchSharp;
using static TorchSharp.torch;

return await SiloProgram.RunAsync(args, services => services.AddSampleLoss("ink", request =>
    new Ink(double.Parse(request.Options["share"], System.Globalization.CultureInfo.InvariantCulture))));

// How far the share of white of each sample is from the one asked for, squared: one value for each sample, of that sample alone.
sealed class Ink(double share) : SampleLoss
{
    // Of pictures in [-1, 1].
    private readonly Scalar _wanted = (2 * share) - 1;

    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        return samples.mean([1, 2, 3]).sub(_wanted).square().MoveToOuterDisposeScope();
    }
}
