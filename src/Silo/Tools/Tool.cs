using System.Text.Json;
using AdjointDpm.Formats;
using AdjointDpm.Grains.Models;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Models;
using AdjointDpm.Models.Files;
using AdjointDpm.Native;

namespace AdjointDpm.Silo.Tools;

/// <summary>Answers <c>--tool</c>: work on files, in one line of JSON, without opening a port or a folder of a cluster.</summary>
internal static class Tool
{
    /// <param name="request">What is asked, as JSON.</param>
    /// <param name="output">Where the answer goes.</param>
    /// <param name="services">Registers losses of the program's own; null for none.</param>
    public static int Run(string? request, TextWriter output, Action<IServiceCollection>? services = null)
    {
        var own = new ServiceCollection();
        services?.Invoke(own);
        using var provider = own.BuildServiceProvider();
        var answer = Answer(request, new(provider.GetServices<OwnLoss>()));
        output.WriteLine(ToolJson.Write(answer));
        return answer.Error is null ? 0 : 1;
    }

    private static ToolAnswer Answer(string? request, OwnLosses losses)
    {
        try
        {
            return ToolJson.ReadRequest(request ?? "null") switch
            {
                InspectRequest inspect => Inspect(inspect),
                ConvertRequest convert => Convert(convert),
                DrawRequest draw => Drawing.Run(draw),
                PlanRequest plan => new ToolAnswer { Memory = ExperimentMemory.Plan(ExperimentSpecJson.Deserialize(plan.SpecJson), plan.Budget, losses) },
                CheckRewardRequest check => new ToolAnswer { Rewards = RewardChecks.Run(check, losses) },
                ScoreRequest score => new ToolAnswer { Score = SampleScores.Run(score) },
                ModelsRequest models => new ToolAnswer { Models = Models(models) },
                EstimateRequest estimate => Estimating.Run(estimate),
                PullRequest pull => Pulling.Run(pull),
                var other => new ToolAnswer($"There is no tool for {other.GetType().Name}."),
            };
        }
        catch (JsonException e)
        {
            return new ToolAnswer($"The request is not one that this silo knows ({e.Message}). Use the silo that came with this adpm.");
        }
        catch (Exception e) when (e is SafetensorsException or ModelConfigException or NativeLoadException or InvalidDataException or IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException or InsufficientMemoryException or SpecException)
        {
            // The runtime adds the name of a parameter, which means nothing to who typed a command.
            return new ToolAnswer(e is ArgumentException { ParamName: { } name } ? e.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal) : e.Message);
        }
    }

    private static ToolAnswer Inspect(InspectRequest request)
    {
        var report = ModelFile.Inspect(request.Path);
        return new ToolAnswer
        {
            Kind = report.Kind,
            Facts = [.. report.Facts.Select(f => new ToolFact(f.Key, f.Value))],
            Metadata = report.Metadata,
            Tensors = [.. report.Tensors.Select(t => new ToolTensor(t.Name, t.Dtype, t.Shape))],
        };
    }

    private static List<ToolModel> Models(ModelsRequest request)
    {
        var cached = HuggingFaceCache.At(request.Cache).List();
        return [.. cached.SelectMany(c => ModelList.In(c.Folder).Select(m => Named(m, m.Path == c.Folder ? c.Name : $"{c.Name}/{Path.GetRelativePath(c.Folder, m.Path)}") with { Commit = c.Commit })),
            .. request.Folders.SelectMany(ModelList.In).Select(m => Named(m, m.Path))];

        static ToolModel Named(ListedModel m, string name) => new(name, m.Kind, m.Model, m.Bytes, m.Precision, m.Path) { Problem = m.Problem };
    }

    private static ToolAnswer Convert(ConvertRequest request)
    {
        NativeTorch.EnsureLoaded();
        return new ToolAnswer { Message = ModelConversion.Convert(request.Input, request.Output, new(request.Model, request.Form, DtypeNames.Read(request.Dtype))), Files = [request.Output] };
    }
}
