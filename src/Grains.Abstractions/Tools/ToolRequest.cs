using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Tools;

/// <summary>Work on files that a silo's program does for whoever started it with <c>--tool</c>: it answers one line of JSON on standard output and ends, and is no silo meanwhile.</summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "tool")]
[JsonDerivedType(typeof(InspectRequest), "inspect")]
[JsonDerivedType(typeof(ConvertRequest), "convert")]
[JsonDerivedType(typeof(DrawRequest), "draw")]
[JsonDerivedType(typeof(PlanRequest), "plan")]
[JsonDerivedType(typeof(CheckRewardRequest), "check-reward")]
[JsonDerivedType(typeof(ScoreRequest), "score")]
[JsonDerivedType(typeof(ModelsRequest), "models")]
[JsonDerivedType(typeof(PullRequest), "pull")]
[JsonDerivedType(typeof(EstimateRequest), "estimate")]
public abstract record ToolRequest
{
    /// <summary>Whether lines that say how far it is may come before the answer.</summary>
    public bool TellsProgress { get; init; }
}

/// <summary>How far a tool is.</summary>
/// <param name="What">What it does now.</param>
/// <param name="Done">So many.</param>
/// <param name="Total">Of so many; 0 when it does not know.</param>
public sealed record ToolProgress(string What, double Done, double Total);

/// <summary>Say what a file or folder holds.</summary>
/// <param name="Path">A safetensors file, a diffusers folder or a PNG picture.</param>
public sealed record InspectRequest(string Path) : ToolRequest;

/// <summary>Turn a file into another form and read it back.</summary>
/// <param name="Input">A safetensors file or a diffusers folder.</param>
/// <param name="Output">A path ending in .safetensors for a file, any other for a folder.</param>
/// <param name="Model">The model the file is for, a diffusers folder or a single file; null when not needed.</param>
/// <param name="Form">kohya, diffusers or webui; null for the usual one.</param>
/// <param name="Dtype">float32, float16 or bfloat16; null for float32.</param>
public sealed record ConvertRequest(string Input, string Output, string? Model = null, string? Form = null, string? Dtype = null) : ToolRequest
{
    /// <summary>epsilon or v_prediction; null for what the model says.</summary>
    public string? Prediction { get; init; }
}

/// <summary>Draw pictures from texts.</summary>
/// <param name="Model">A diffusers folder or a single file of Stable Diffusion 1, 2 or XL.</param>
/// <param name="Prompts">One picture for each.</param>
/// <param name="Output">A PNG file; with several prompts their number is put before its extension.</param>
public sealed record DrawRequest(string Model, IReadOnlyList<string> Prompts, string Output) : ToolRequest
{
    /// <summary>Text to guide away from. Default: what the model takes for no text.</summary>
    public string? Negative { get; init; }

    /// <summary>Steps of the sampler. Default: 20.</summary>
    public int Steps { get; init; } = 20;

    /// <summary>Weight of classifier-free guidance; 1 is none. Default: 7.5.</summary>
    public double Guidance { get; init; } = 7.5;

    /// <summary>Seed of the noise. Default: 1.</summary>
    public long Seed { get; init; } = 1;

    /// <summary>Height in pixels; null for what the model was trained on.</summary>
    public int? Height { get; init; }

    /// <summary>Width in pixels; null for what the model was trained on.</summary>
    public int? Width { get; init; }

    /// <summary>Name of a sampler; null for the one of the folder's scheduler.</summary>
    public string? Sampler { get; init; }

    /// <summary>LoRA files to merge, each with its strength behind a colon where that is not 1. Default: none.</summary>
    public IReadOnlyList<string> Loras { get; init; } = [];

    /// <summary>Files of learnt words. Default: none.</summary>
    public IReadOnlyList<string> Words { get; init; } = [];

    /// <summary>A file of prompts, drawn after those given; what it says of steps, guidance, seed, size and negative prompt goes before what is said here. Default: none.</summary>
    public string? PromptsFile { get; init; }

    /// <summary>A file of prompts' embeddings, drawn after all texts. Default: none.</summary>
    public string? PromptEmbeds { get; init; }

    /// <summary>float32, float16 or bfloat16; null for float32.</summary>
    public string? Dtype { get; init; }

    /// <summary>epsilon or v_prediction; null for what the model says.</summary>
    public string? Prediction { get; init; }

    /// <summary>Side of the decoder's tiles in pixels; null for whole pictures.</summary>
    public int? Tiles { get; init; }

    /// <summary>Whether attention is the fused kernel. Default: false.</summary>
    public bool Fused { get; init; }

    /// <summary>Device, such as cpu:0 or cuda:0. Default: cpu:0.</summary>
    public string Device { get; init; } = "cpu:0";
}

/// <summary>Say how much memory a shard of an experiment will take, by gradient method. Nothing is trained.</summary>
/// <param name="SpecJson">Canonical JSON of the spec.</param>
/// <param name="Budget">Bytes that the weights and a shard's gradient may take together; null for no limit.</param>
public sealed record PlanRequest(string SpecJson, long? Budget = null) : ToolRequest
{
    /// <summary>Whether a text model is planned from its configuration without being loaded; null for networks of more than 100 million weights. Default: null.</summary>
    public bool? FromConfiguration { get; init; }

    /// <summary>Canonical JSON of the spec with its search, for the number of trials and the time that they take; null to leave that out.</summary>
    public string? SearchJson { get; init; }
}

/// <summary>What a whole experiment will take: counts by its spec, seconds by what one shard took on this machine.</summary>
/// <param name="Trials">Trials, at most.</param>
/// <param name="Steps">Steps of a trial.</param>
/// <param name="Shards">Shards of a step.</param>
/// <param name="ForwardNfe">Evaluations of the network from noise to sample in all shards of all trials; one for a batch.</param>
/// <param name="BackwardNfe">Evaluations on the way back.</param>
/// <param name="Vjps">Vector–Jacobian products.</param>
/// <param name="EvaluationNfe">Evaluations for held-out samples, before, on the way and after.</param>
/// <param name="ShardSeconds">Seconds of one shard's gradient, measured.</param>
/// <param name="DeviceSeconds">Seconds of one device for all trials, proofs, loading and saving apart.</param>
public sealed record RunCost(int Trials, int Steps, int Shards, long ForwardNfe, long BackwardNfe, long Vjps, long EvaluationNfe, double ShardSeconds, double DeviceSeconds);

/// <summary>Say whether losses are fit for gradients: those of an experiment, or a reward alone. One of <see cref="SpecJson"/>, <see cref="File"/> and <see cref="Address"/> is set.</summary>
public sealed record CheckRewardRequest : ToolRequest
{
    /// <summary>Canonical JSON of a spec, whose losses are tested on samples of its model.</summary>
    public string? SpecJson { get; init; }

    /// <summary>A TorchScript or ONNX file.</summary>
    public string? File { get; init; }

    /// <summary>Where a sidecar listens.</summary>
    public string? Address { get; init; }

    /// <summary>Samples to test at, 2 or more. Default: 3.</summary>
    public int Samples { get; init; } = 3;

    /// <summary>Channels, height and width of the pictures for a reward alone. Default: 3, 64, 64.</summary>
    public IReadOnlyList<int> Shape { get; init; } = [3, 64, 64];

    /// <summary>Column of an ONNX file's output; null for an output of one number a picture.</summary>
    public int? Column { get; init; }

    /// <summary>Whether a reward alone takes pictures in [-1, 1].</summary>
    public bool Symmetric { get; init; }
}

/// <summary>Say what a classifier sees in a folder of pictures.</summary>
/// <param name="Folder">Pictures of one size, or folders of them that are named after classes.</param>
/// <param name="Classifier">Folder of a classifier.</param>
public sealed record ScoreRequest(string Folder, string Classifier) : ToolRequest
{
    /// <summary>Folder of pictures to measure the distance to; null for none.</summary>
    public string? Reference { get; init; }

    /// <summary>Class that all pictures are to be of; null for the names of the folders.</summary>
    public int? Label { get; init; }

    /// <summary>Layer whose features are compared; null for the last one.</summary>
    public string? Layer { get; init; }
}

/// <summary>A number with its 95 % interval.</summary>
/// <param name="Value">Number.</param>
/// <param name="Low">Lower end.</param>
/// <param name="High">Upper end.</param>
public sealed record ScoreInterval(double Value, double Low, double High);

/// <summary>What a classifier sees in a folder of pictures.</summary>
public sealed record SampleScore
{
    /// <summary>Number of pictures.</summary>
    public required int Samples { get; init; }

    /// <summary>Layer whose features were compared; empty for a classifier without maps, of which nothing is compared.</summary>
    public required string Layer { get; init; }

    /// <summary>Pictures that are to be of a known class.</summary>
    public required int Labelled { get; init; }

    /// <summary>Of these, how many the classifier takes for it.</summary>
    public required int Recognised { get; init; }

    /// <summary>Their share, with Wilson's interval.</summary>
    public ScoreInterval? Share { get; init; }

    /// <summary>Mean distance between the features of two pictures of one class, averaged over the classes.</summary>
    public double? Diversity { get; init; }

    /// <summary>Classes with two pictures or more.</summary>
    public required int DiverseClasses { get; init; }

    /// <summary>How many pictures were taken for each class.</summary>
    public required IReadOnlyList<int> Predicted { get; init; }

    /// <summary>Pictures of the reference.</summary>
    public int? ReferenceSamples { get; init; }

    /// <summary>Length of a picture's features.</summary>
    public long? FeatureLength { get; init; }

    /// <summary>Fréchet distance to the reference.</summary>
    public ScoreInterval? Frechet { get; init; }

    /// <summary>Kernel distance to the reference.</summary>
    public ScoreInterval? Kernel { get; init; }
}

/// <summary>Bring a trial's result into a form that other programs load, read back and compared.</summary>
/// <param name="Artifacts">The trial's folder of results.</param>
/// <param name="Form">diffusers, single-file, lora (both dialects), kohya, peft or embedding.</param>
/// <param name="Output">A folder, or for one file a path ending in .safetensors.</param>
/// <param name="Name">What to name files by where the output is a folder.</param>
/// <param name="Source">Where the result comes from, for the file's own comment.</param>
public sealed record PullRequest(string Artifacts, string Form, string Output, string Name, string Source) : ToolRequest
{
    /// <summary>Folder or file of the model that was trained, for adapters.</summary>
    public string? BaseModel { get; init; }

    /// <summary>LoRA files that were part of that model, each with its weight behind a colon; null for none.</summary>
    public IReadOnlyList<string>? BaseLoras { get; init; }

    /// <summary>What that model's network was taken to predict, epsilon or v_prediction; null for what the model says.</summary>
    public string? BasePrediction { get; init; }

    /// <summary>float32, float16 or bfloat16 for a model; null for float32.</summary>
    public string? Dtype { get; init; }
}

/// <summary>Say how much memory a gradient will take from a configuration alone: no weights are needed.</summary>
/// <param name="Model">sd1, sd2, sdxl, or a diffusers folder whose configurations are read.</param>
public sealed record EstimateRequest(string Model) : ToolRequest
{
    /// <summary>Height in pixels; null for what the model was trained on.</summary>
    public int? Height { get; init; }

    /// <summary>Width in pixels; null for what the model was trained on.</summary>
    public int? Width { get; init; }

    /// <summary>Steps of the sampler. Default: 20.</summary>
    public int Steps { get; init; } = 20;

    /// <summary>Samples differentiated together. Default: 1.</summary>
    public int Batch { get; init; } = 1;

    /// <summary>float32, float16 or bfloat16; null for float32.</summary>
    public string? Dtype { get; init; }

    /// <summary>Patterns for names of trained or adapted weights. Default: none.</summary>
    public IReadOnlyList<string> Trained { get; init; } = [];

    /// <summary>Rank of adapters; null where weights themselves are trained.</summary>
    public int? Rank { get; init; }

    /// <summary>Whether classifier-free guidance is used. Default: true.</summary>
    public bool Guided { get; init; } = true;

    /// <summary>Bytes that weights and gradient may take together; null for no limit.</summary>
    public long? Budget { get; init; }
}

/// <summary>List models on this machine.</summary>
/// <param name="Cache">Folder of Hugging Face's cache; may be missing.</param>
/// <param name="Folders">Other folders to look through.</param>
public sealed record ModelsRequest(string Cache, IReadOnlyList<string> Folders) : ToolRequest;

/// <summary>What a tool answers.</summary>
/// <param name="Error">Why it could not be done; null when it was.</param>
public sealed record ToolAnswer(string? Error = null)
{
    /// <summary>Of a line before the answer: how far it is, and nothing else.</summary>
    public ToolProgress? Progress { get; init; }

    /// <summary>What a file is, for inspect.</summary>
    public string? Kind { get; init; }

    /// <summary>What can be said of it, in order, for inspect.</summary>
    public IReadOnlyList<ToolFact>? Facts { get; init; }

    /// <summary>Strings of the file's header, for inspect.</summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; init; }

    /// <summary>Every tensor, for inspect.</summary>
    public IReadOnlyList<ToolTensor>? Tensors { get; init; }

    /// <summary>The memory of an experiment, for plan.</summary>
    public ShardMemory? Memory { get; init; }

    /// <summary>How fit losses are, for check-reward.</summary>
    public IReadOnlyList<RewardFitness>? Rewards { get; init; }
    /// <summary>What a classifier sees, for score.</summary>
    public SampleScore? Score { get; init; }

    /// <summary>The models, for models.</summary>
    public IReadOnlyList<ToolModel>? Models { get; init; }

    /// <summary>What was done, in a sentence.</summary>
    public string? Message { get; init; }

    /// <summary>Files and folders that were written.</summary>
    public IReadOnlyList<string>? Files { get; init; }

    /// <summary>What was done otherwise than one may think, a sentence each.</summary>
    public IReadOnlyList<string>? Warnings { get; init; }
}

/// <summary>One thing that can be said of a file.</summary>
/// <param name="Name">What is said.</param>
/// <param name="Value">The value.</param>
public sealed record ToolFact(string Name, string Value);

/// <summary>One tensor of a file.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Dtype">Its element type as files spell it.</param>
/// <param name="Shape">Its shape.</param>
public sealed record ToolTensor(string Name, string Dtype, IReadOnlyList<long> Shape);

/// <summary>Memory of a worker and of a trial's coordinator, in bytes of main memory.</summary>
/// <param name="Samples">Samples of a shard.</param>
/// <param name="Steps">Steps of the sampler.</param>
/// <param name="WeightBytes">Weights of all networks of the model, held throughout.</param>
/// <param name="TrainedNumbers">Numbers that are trained.</param>
/// <param name="OptimizerBytes">Parameters and the optimiser's state, held by the coordinator.</param>
/// <param name="Methods">A shard's gradient above the weights, by method: the spec's own first.</param>
public sealed record ShardMemory(int Samples, int Steps, long WeightBytes, long TrainedNumbers, long OptimizerBytes, IReadOnlyList<MethodMemory> Methods)
{
    /// <summary>Whether this was computed from configurations, and not measured.</summary>
    public bool IsEstimated { get; init; }

    /// <summary>What the whole experiment will take; null where nothing was measured.</summary>
    public RunCost? Cost { get; init; }
}

/// <summary>What one gradient method holds at its highest moment, above the weights. The parts add up to the peak.</summary>
/// <param name="Method">Name of the method.</param>
/// <param name="PeakBytes">All parts.</param>
/// <param name="StateBytes">States of the sampler.</param>
/// <param name="NetworkBytes">Graphs of the network and the product's own tensors.</param>
/// <param name="LossBytes">The loss with its graph, a decoder included.</param>
/// <param name="GradientBytes">Gradients of what is trained.</param>
/// <param name="Evaluations">Evaluations of the network, on both ways.</param>
public sealed record MethodMemory(string Method, long PeakBytes, long StateBytes, long NetworkBytes, long LossBytes, long GradientBytes, int Evaluations)
{
    /// <summary>What a spec sets for this row, one key on a line; null where the method's name says it.</summary>
    public string? Settings { get; init; }

    /// <summary>Whether this is the spec's own method.</summary>
    public bool IsConfigured { get; init; }

    /// <summary>Whether this is the exact method with the fewest evaluations that fits the budget.</summary>
    public bool IsChosen { get; init; }
}

/// <summary>What was found out about a loss.</summary>
/// <param name="Name">Which: its place and name in the spec, or the file or address.</param>
/// <param name="Problems">What speaks against it, a sentence or two each; empty if nothing does.</param>
public sealed record RewardFitness(string Name, IReadOnlyList<string> Problems)
{
    /// <summary>Least loss of the samples.</summary>
    public double Lowest { get; init; }

    /// <summary>Largest loss of the samples.</summary>
    public double Highest { get; init; }

    /// <summary>Mean loss of the samples.</summary>
    public double Mean { get; init; }

    /// <summary>Norm of the gradient of the sum over the samples.</summary>
    public double GradientNorm { get; init; }

    /// <summary>Precision of the losses: float32 or float64.</summary>
    public string Precision { get; init; } = "";

    /// <summary>Largest relative error of a slope that passes.</summary>
    public double Tolerance { get; init; }

    /// <summary>The gradient against central differences; empty when nothing could be differentiated.</summary>
    public IReadOnlyList<RewardDirection> Slopes { get; init; } = [];

    /// <summary>Largest change of a sample's loss when others change, over the losses' size.</summary>
    public double Coupling { get; init; }

    /// <summary>Whether loss and gradient had the same bits each time.</summary>
    public bool Deterministic { get; init; }
}

/// <summary>One direction in which a loss's gradient was compared with central differences.</summary>
/// <param name="Direction">The gradient's own, or a random one.</param>
/// <param name="Gradient">Slope by the gradient.</param>
/// <param name="Difference">Slope by differences.</param>
/// <param name="RelativeError">Their distance, over the size that such a slope has.</param>
public sealed record RewardDirection(string Direction, double Gradient, double Difference, double RelativeError);

/// <summary>A model on this machine.</summary>
/// <param name="Name">How to name it: org/name of the cache, or its path.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Model">Which model it is or is for; null when it does not say.</param>
/// <param name="Bytes">Bytes of its files.</param>
/// <param name="Precision">Number formats of its weights, most bytes first.</param>
/// <param name="Path">Its file or folder.</param>
public sealed record ToolModel(string Name, string Kind, string? Model, long Bytes, IReadOnlyList<string> Precision, string Path)
{
    /// <summary>Commit of the cache's snapshot; null for others.</summary>
    public string? Commit { get; init; }

    /// <summary>Why it cannot be read; null when nothing was found wrong.</summary>
    public string? Problem { get; init; }
}
