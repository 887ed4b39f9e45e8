using AdjointDpm.Client.Tests.Specs;
using AdjointDpm.Grains.Prompts;
using AdjointDpm.Grains.Specs;
using Parquet;
using Parquet.Schema;

namespace AdjointDpm.Client.Tests.Prompts;

public sealed class PromptFileTests : IDisposable
{
    private readonly SpecFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("a.txt", "# animals\ncat\n\n  a dog, running \n")]
    [InlineData("a.csv", "id,prompt\n1,cat\n2,\"a dog, running\"\n")]
    [InlineData("a.tsv", "Text\tsource\ncat\tx\na dog, running\ty\n")]
    [InlineData("a.jsonl", "{\"prompt\": \"cat\"}\n\n\"a dog, running\"\n")]
    [InlineData("a.json", "[{\"text\": \"cat\", \"image\": \"x.png\"}, {\"caption\": \"a dog, running\", \"tags\": []}]")]
    [InlineData("b.json", "{\"prompts\": [\"cat\", \"a dog, running\"]}")]
    [InlineData("a.yaml", "- cat\n- \"a dog, running\"\n")]
    [InlineData("a.toml", "[prompt]\nwidth = 512\n\n[[prompt.subset]]\nprompt = \"cat\"\n[[prompt.subset]]\nprompt = \"a dog, running\"\n")]
    [InlineData("b.toml", "[prompt]\nsubset = [{ prompt = 'cat' }, { prompt = 'a dog, running' }]\n")]
    [InlineData("a.yml", "prompts:\n- prompt: cat\n- {prompt: \"a dog, running\"}\n")]
    public void Read_EveryForm_GivesTheTexts(string name, string text) => Assert.Equal(["cat", "a dog, running"], PromptFile.Read(Write(name, text)).Select(p => p.Text));

    [Fact]
    public void Read_LinesOfSdScripts_HaveTheirOptions()
    {
        var prompts = PromptFile.Read(Write("a.txt", "a fox --n blurry, low quality --w 512 --h 768 --d 7 --l 7.5 --s 20\nplain\n"));
        // Of sd-scripts' other options the sampler counts; guidance that a network is told, and flow matching's shift, are of other models.
        Assert.Equal("k_euler_a", PromptFile.Read(Write("b.txt", "a fox --ss k_euler_a --g 3.5 --fs 3\n"))[0].Sampler);
        Assert.Equal(new Prompt("a fox") { Negative = "blurry, low quality", Width = 512, Height = 768, Seed = 7, Guidance = 7.5, Steps = 20 }, prompts[0]);
        Assert.Equal(new Prompt("plain"), prompts[1]);
    }

    [Fact]
    public void Read_TomlOfSdScripts_HasWhatAllShare_AndWhatEachSays() =>
        Assert.Equal(
            [new Prompt("a fox") { Negative = "blurry", Width = 512, Height = 768, Guidance = 7.5, Steps = 20, Seed = 7 }, new Prompt("an owl") { Negative = "blurry", Width = 640, Height = 768, Guidance = 4, Steps = 20 }],
            PromptFile.Read(Write("a.toml", "# of all\n[prompt]\nwidth = 512\nheight = 768\nscale = 7.5\nsample_steps = 20\nnegative_prompt = \"blurry\"\n\n[[prompt.subset]]\nprompt = \"a fox\"\nseed = 7\n\n[[prompt.subset]]\nprompt = \"an owl\"\nwidth = 640\nscale = 4\n")));

    [Fact]
    public void Read_Tables_HaveColumnsByAnyOfTheirNames() =>
        Assert.Equal(
            [new Prompt("a \"red\"\nfox") { Negative = "blurry", Seed = 3, Guidance = 2.5, Class = 4 }, new Prompt("cat")],
            PromptFile.Read(Write("a.csv", "Caption,Negative-Prompt,seed,cfg scale,label\n\"a \"\"red\"\"\nfox\",blurry,3,2.5,4\ncat,,,,\n")));

    [Fact]
    public async Task Read_Parquet_HasTextsAndNumbers()
    {
        var path = Path.Combine(_folder.Folder, "a.parquet");
        var (text, seed, label) = (new DataField<string>("text"), new DataField<long>("seed"), new DataField<int?>("label"));
        await using (var stream = File.Create(path))
        {
            await using var writer = await ParquetWriter.CreateAsync(new ParquetSchema(text, seed, label), stream, cancellationToken: TestContext.Current.CancellationToken);
            using var group = writer.CreateRowGroup();
            await group.WriteAsync(text, ["cat", "a dog, running"]);
            await group.WriteAsync<long>(seed, new ReadOnlyMemory<long>([5, 6]), cancellationToken: TestContext.Current.CancellationToken);
            await group.WriteAsync<int>(label, new ReadOnlyMemory<int?>([null, 2]), cancellationToken: TestContext.Current.CancellationToken);
        }

        Assert.Equal([new Prompt("cat") { Seed = 5 }, new Prompt("a dog, running") { Seed = 6, Class = 2 }], PromptFile.Read(path));
        Assert.Contains("is no parquet file that can be read", Assert.Throws<InvalidDataException>(() => PromptFile.Read(Write("b.parquet", "PAR1 or so"))).Message);
    }

    [Theory]
    [InlineData("a.txt", "cat\na dog --ar 16:9\n", "a.txt:2: the line has an option '--ar'. Known are --n negative, --w width, --h height, --d seed, --l guidance, --s steps and --ss sampler.")]
    [InlineData("a.toml", "[prompt]\nwidth = \n", "a.toml:2: the line is no TOML")]
    [InlineData("a.toml", "width = 3\n", "a.toml: has no table [prompt]. Write what all share under [prompt], and each behind [[prompt.subset]].")]
    [InlineData("a.toml", "[prompt]\nprompt = \"x\"\n", "a.toml: [prompt] has no subset. Write what all share")]
    [InlineData("a.toml", "[prompt]\n[[prompt.subset]]\nseed = 3\n", "a.toml: subset 1 has no prompt, text or caption, but seed. Name the one with the texts 'prompt'.")]
    [InlineData("a.toml", "[prompt]\nsubset = []\n", "a.toml: holds no prompt.")]
    [InlineData("a.toml", "[prompt]\n[[prompt.subset]]\nprompt = \"x\"\nsample_steps = 0\n", "a.toml: subset 1 has a steps of '0'; it is a whole number from 1 to 1000.")]
    [InlineData("a.txt", "cat --s many\n", "a.txt:1: the line has a steps of 'many'; it is a whole number from 1 to 1000.")]
    [InlineData("a.txt", "cat --l nan\n", "a.txt:1: the line has a guidance of 'nan'; it is a number.")]
    [InlineData("a.txt", "# nothing\n", "a.txt: holds no prompt.")]
    [InlineData("a.csv", "id,image\n1,x\n", "a.csv:1: the line has no prompt, text or caption, but id, image. Name the one with the texts 'prompt'.")]
    [InlineData("a.csv", "prompt,seed\na dog, running,1\n", "a.csv:2: the line has 3 fields under 2 columns. Put texts with separators into quotes.")]
    [InlineData("a.csv", "prompt\ncat\n\"a dog\n", "a.csv:3: the line is no row of a table: a quote is not closed or stands inside a text. Double it there.")]
    [InlineData("a.csv", "prompt,seed\n,1\n", "a.csv:2: the line has an empty prompt. Remove it, or write what to draw.")]
    [InlineData("a.jsonl", "\"cat\"\n[1]\n", "a.jsonl:2: the line is Array, neither a text nor an object with a prompt.")]
    [InlineData("a.json", "3", "a.json: is no list of prompts, but Number.")]
    [InlineData("a.yaml", "cat\n", "a.yaml: is no list of prompts. Write each on a line of its own behind '- '.")]
    [InlineData("a.yaml", "- cat\n- [dog]\n", "a.yaml:2: the line is a list in a list.")]
    [InlineData("a.docx", "cat", "a.docx: files of prompts end in .txt, .csv, .tsv, .jsonl, .json, .yaml, .yml, .toml, .parquet, not in '.docx'.")]
    public void Read_WhatIsWrong_HasItsLine(string name, string text, string expected) =>
        Assert.StartsWith(expected, Assert.Throws<InvalidDataException>(() => PromptFile.Read(Write(name, text))).Message.Replace(_folder.Folder + "/", "", StringComparison.Ordinal));

    [Fact]
    public void Spec_WithAFileOfPrompts_IsTheSpecWithThemInIt()
    {
        Write("animals.csv", "prompt,class\ncat,3\ndog,5\n");
        var byFile = Parse("sample: {promptsFile: animals.csv, height: 64}");
        var written = Parse("sample: {prompts: [cat, dog], classes: [3, 5], height: 64}");
        Assert.Equal(written.SpecSha256, byFile.SpecSha256);
        Assert.Null(byFile.Spec.Sample.PromptsFile);

        ExperimentDocument Parse(string sample)
        {
            var result = _folder.Parse(With(sample));
            Assert.Empty(result.Problems);
            return result.Document!;
        }
    }

    [Theory]
    [InlineData("{promptsFile: none.txt}", "e.yaml:10:25: sample.promptsFile: no such file 'none.txt'.")]
    [InlineData("{promptsFile: own.txt}", "e.yaml:10:25: own.txt: prompt 2 has its own seed, but all samples of an experiment share theirs.")]
    [InlineData("{promptsFile: bad.txt}", "e.yaml:10:25: sample.promptsFile: bad.txt:1: the line has an option '--ar'.")]
    [InlineData("{promptsFile: own.txt, prompts: [a]}", "e.yaml:10:12: sample.promptsFile stands beside sample.prompts. Keep one of the two.")]
    public void Spec_WithAFileThatDoesNotDo_SaysSo(string sample, string expected)
    {
        Write("own.txt", "cat\ndog --d 4\n");
        Write("bad.txt", "dog --ar 4\n");
        Assert.StartsWith(expected, _folder.Problems(With("sample: " + sample)), StringComparison.Ordinal);
    }

    [Fact]
    public void Json_WithAFileOfPrompts_IsRefused()
    {
        var json = _folder.Parse(SpecFolder.Valid).Document!.SpecJson.Replace("\"sample\":{", "\"sample\":{\"promptsFile\":\"/a.txt\",", StringComparison.Ordinal);
        Assert.Contains("Write sample.prompts here", Assert.Throws<SpecException>(() => ExperimentSpecJson.Deserialize(json)).Message);
    }

    private static string With(string sample) => SpecFolder.Valid.Replace("  losses:", $"  # what is drawn\n  {sample}\n  losses:", StringComparison.Ordinal);

    private string Write(string name, string text)
    {
        var path = Path.Combine(_folder.Folder, name);
        File.WriteAllText(path, text);
        return path;
    }
}
