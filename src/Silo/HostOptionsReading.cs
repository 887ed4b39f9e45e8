using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Silo;

/// <summary>Reads and checks options before anything starts, so that a mistake is one sentence and not a stack trace.</summary>
internal static class HostOptionsReading
{
    /// <exception cref="ValidationException">A value is missing, of the wrong form or out of range.</exception>
    public static T Read<T>(this IConfiguration configuration, string section)
        where T : class, new()
    {
        var options = new T();
        try
        {
            configuration.GetSection(section).Bind(options);
        }
        catch (InvalidOperationException e)
        {
            throw new ValidationException($"{e.Message} {e.InnerException?.Message}");
        }
        var problems = new List<ValidationResult>();
        return Validator.TryValidateObject(options, new ValidationContext(options), problems, validateAllProperties: true)
            ? options
            : throw new ValidationException(string.Join(' ', problems.Select(problem => problem.ErrorMessage)));
    }
}
