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
        var answer = Answer(request, output, new(provider.GetServices<OwnLoss>()));
        output.WriteLine(ToolJson.Write(answer));
        return answer.Error is null ? 0 : 1;
    }

    private static ToolAnswer Answer(string? request, TextWriter output, OwnLosses losses)
    {
        try
        {
            var asked = ToolJson.ReadRequest(request ?? "null");
            var telling = new ToolTelling(asked.TellsProgress ? output : null, TimeProvider.System);
            return asked switch
            {
                InspectRequest inspect => Inspect(inspect),
                ConvertRequest convert => Convert(convert, telling),
                DrawRequest draw => Drawing.Run(draw, telling),
                PlanRequest plan => new ToolAnswer { Memory = ExperimentMemory.Plan(plan, losses, telling, CancellationToken.None) },
                CheckRewardRequest check => new ToolAnswer { Rewards = RewardChecks.Run(check, losses, telling, CancellationToken.None) },
                ScoreRequest score => new ToolAnswer { Score = SampleScores.Run(score, telling) },
                ModelsRequest models => new ToolAnswer { Models = Models(models) },
                EstimateRequest estimate => Estimating.Run(estimate),
                PullRequest pull => Pulling.Run(pull, telling),
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

    private static ToolAnswer Convert(ConvertRequest request, ToolTelling telling)
    {
        telling.Report(new("converting, and comparing what was written", 0, 0));
        NativeTorch.EnsureLoaded();
        return new ToolAnswer { Message = ModelConversion.Convert(request.Input, request.Output, new(request.Model, request.Form, DtypeNames.Read(request.Dtype), request.Prediction)), Files = [request.Output] };
    }
}
