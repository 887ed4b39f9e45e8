using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>Group normalisation with weight one and bias zero to begin with.</summary>
/// <remarks>TorchSharp's own module leaves both as it found the memory, which gives NaN in an untrained network.</remarks>
internal sealed class GroupNorm : nn.Module<Tensor, Tensor>
{
    private readonly Parameter weight;
    private readonly Parameter bias;
    private readonly long _groups;
    private readonly double _eps;

    public GroupNorm(long groups, long channels, double eps)
        : base(nameof(GroupNorm))
    {
        if (groups <= 0 || channels % groups != 0)
            throw new ModelConfigException($"norm_num_groups {groups} does not divide {channels} channels. Choose a divisor of every entry of block_out_channels.");
        (_groups, _eps) = (groups, eps);
        weight = new Parameter(torch.ones(channels));
        bias = new Parameter(torch.zeros(channels));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => nn.functional.group_norm(x, _groups, weight, bias, _eps);
}
