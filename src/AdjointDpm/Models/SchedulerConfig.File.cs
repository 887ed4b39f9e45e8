using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace AdjointDpm.Models;

public sealed partial record SchedulerConfig
{
    // Of the fields here these alone may be null for diffusers' classes, which are given every field of a file: a null anywhere else is an error there, or turns a default into its opposite.
    private static readonly HashSet<string> Nullable = ["trained_betas", "variance_type", "solver_p", "sigma_min", "sigma_max", "shift_terminal"];

    private static readonly HashSet<string> Ours = [.. ModelConfig.Fields(new SchedulerConfig()).Select(f => f.Key)];

    // What a file of our own says in any case, for those who read it.
    private static readonly IReadOnlySet<string> Always = new HashSet<string> { "_class_name", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type" };

    /// <summary>Fields of the file that have no property here; kept so that a written file has what the read one had.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement> Other { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Fields that the file named; null for a configuration made in code.</summary>
    [JsonIgnore]
    internal IReadOnlySet<string>? Named { get; private init; }

    /// <summary>Reads the file. Missing fields have the defaults of its class.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, or its schedule is not supported.</exception>
    public static SchedulerConfig Read(string path)
    {
        var fields = ModelConfig.Read<JsonObject>(path);
        var named = new HashSet<string>(StringComparer.Ordinal);
        foreach (var (name, value) in fields.ToList())
        {
            if (value is null && IsNeverNull(name))
                fields.Remove(name);
            else
                named.Add(name);
        }

        foreach (var (name, value) in Defaults(fields["_class_name"] is JsonValue text && text.TryGetValue<string>(out var its) ? its : ""))
            fields.TryAdd(name, value);
        var config = ModelConfig.Of<SchedulerConfig>(path, fields) with { Named = named };
        if (config.Unsupported() is { } field)
            throw new ModelConfigException($"{path}: {field} is true, which is not supported. Set it to false if the model allows.");
        if (config.ClassName.StartsWith("Flow", StringComparison.Ordinal) && !config.IsFlow)
            throw new ModelConfigException($"{path}: {config.ClassName} is not supported. Flow-matching schedulers that are: {FlowEuler}, {FlowHeun}, and DPM-Solver, DEIS and UniPC with use_flow_sigmas.");
        _ = (config.Prediction, config.Spacing(), config.Schedule());
        return config;
    }

    /// <summary>Writes the file: the fields that the read one had, and those that are not the class's defaults.</summary>
    public void Write(string path)
    {
        var fields = ModelConfig.Fields(this);
        var usual = ModelConfig.Fields(new SchedulerConfig { ClassName = ClassName });
        foreach (var (name, value) in Defaults(ClassName))
            usual[name] = value;
        var said = Named ?? Always;
        var kept = fields.Where(f => f.Value is null ? said.Contains(f.Key) && !IsNeverNull(f.Key) : said.Contains(f.Key) || !JsonNode.DeepEquals(f.Value, usual[f.Key]));
        // In the order in which diffusers has them.
        ModelConfig.Write(path, new JsonObject(kept.OrderBy(f => f.Key, StringComparer.Ordinal).Select(f => KeyValuePair.Create(f.Key, f.Value?.DeepClone()))));
    }

    /// <summary>Whether all fields are equal, those that have no property here among them.</summary>
    public bool Equals(SchedulerConfig? other) => other is not null && (ReferenceEquals(this, other) || JsonNode.DeepEquals(ModelConfig.Fields(this), ModelConfig.Fields(other)));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(ClassName, NumTrainTimesteps, BetaStart, BetaEnd, BetaSchedule, PredictionType, TimestepSpacing, StepsOffset);

    private static bool IsNeverNull(string field) => Ours.Contains(field) && !Nullable.Contains(field);

    /// <summary>Defaults that a class has otherwise than the others.</summary>
    private static Dictionary<string, JsonNode> Defaults(string className) => className switch
    {
        "HeunDiscreteScheduler" or "KDPM2DiscreteScheduler" or "KDPM2AncestralDiscreteScheduler" => new() { ["beta_start"] = 0.00085, ["beta_end"] = 0.012 },
        Singlestep => new() { ["lower_order_final"] = false },
        _ => [],
    };
}
