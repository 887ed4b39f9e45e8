using AdjointDpm.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>A published MNIST diffusion network (Yichizz/hot_vs_cold_diffusion, MIT): four 7×7 convolutions with layer norm. Input x in [-0.5, 0.5] and t/1000, output eps.</summary>
internal sealed class MnistCnnDenoiser : nn.Module<Tensor, Tensor, Tensor>
{
    private readonly Network gt = new();
    private readonly Tensor alpha_t = zeros(1001);
    private readonly Tensor beta_t = zeros(1001);

    public MnistCnnDenoiser()
        : base(nameof(MnistCnnDenoiser))
    {
        RegisterComponents();
    }

    /// <summary>Signal coefficient squared after t of the 1000 steps.</summary>
    public double AlphaBar(int t) => alpha_t[t].Number();

    public override Tensor forward(Tensor x, Tensor time) => gt.call(x, time);

    private sealed class Network : nn.Module<Tensor, Tensor, Tensor>
    {
        private readonly ModuleList<nn.Module<Tensor, Tensor>> blocks;
        private readonly Sequential time_embed;
        private readonly Tensor frequencies = zeros(16);

        public Network()
            : base(nameof(Network))
        {
            blocks = nn.ModuleList<nn.Module<Tensor, Tensor>>(new Block(1, 16), new Block(16, 32), new Block(32, 32), new Block(32, 16), nn.Conv2d(16, 1, 3, padding: 1));
            time_embed = nn.Sequential(nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 16));
            RegisterComponents();
        }

        public override Tensor forward(Tensor x, Tensor time)
        {
            var angles = time.reshape(-1, 1) * frequencies;
            var embedding = time_embed.call(cat([angles.sin(), angles.cos() - 1], 1));
            var h = blocks[0].call(x) + embedding.unsqueeze(-1).unsqueeze(-1);
            return blocks.Skip(1).Aggregate(h, (y, block) => block.call(y));
        }
    }

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly Sequential net;

        public Block(int input, int output)
            : base(nameof(Block))
        {
            net = nn.Sequential(nn.Conv2d(input, output, 7, padding: 3), nn.LayerNorm([output, 28, 28]), nn.GELU());
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => net.call(x);
    }
}
