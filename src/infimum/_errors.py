"""The catalogue of errors and warnings: a code for each, what it means, and what to do.

A code is for one kind of trouble that a user has, wherever it is found, and keeps its meaning from
one version to the next; its first two characters say the area. `infimum explain` and the page of
errors in the documentation are made from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CODED = re.compile(r" \[[EW]\d{3}\]$")
"""A message's code, at its end."""


@dataclass(frozen=True)
class Entry:
    """What a code stands for.

    Parameters
    ----------
    title
        The trouble in a few words.
    means
        What was found, and why it can't go on with it.
    cure
        What to do.
    """

    title: str
    means: str
    cure: str


def coded(code: str, message: str) -> str:
    """The message with its code at the end; that of its cause stays, if it has one already."""
    assert code in CATALOGUE, code
    return message if CODED.search(message) else f"{message} [{code}]"


def plain(message: object) -> str:
    """What an error says, without its code: for the message of another one."""
    return CODED.sub("", str(message))


AREAS = {
    "E1": "The target and its supports",
    "E2": "Families",
    "E3": "Options of a fit",
    "E4": "Fits as answers",
    "E5": "Data in rows",
    "E6": "Models in other languages",
    "E7": "Checkpoints and several processes",
    "E8": "Corrections, evidence and calibration",
    "E9": "Files, pictures and the command line",
    "W1": "Warnings",
}
"""What codes that begin so are about."""

CATALOGUE: dict[str, Entry] = {
    "E101": Entry(
        "Not a function",
        "A log density, a prior, a likelihood or a function of draws is given as something that "
        "can't be called.",
        "Give the function itself, `log_density`, not what it returns, `log_density(x)`.",
    ),
    "E102": Entry(
        "A log density that can't be differentiated",
        "JAX or PyTorch has to follow the computation from the parameters to log p̂. It can't "
        "where a parameter becomes a NumPy array or a Python number, where Python branches on its "
        "value, or where a loop has no fixed length.",
        "Write it with `jax.numpy`, `jax.numpy.where` and `jax.lax.scan`; in PyTorch with "
        "operations on tensors, and without detach or item. Code that can't be written so goes "
        "through `infimum.from_numpy`, with a gradient of its own.",
    ),
    "E103": Entry(
        "A log density that raises",
        "The log density, called with parameters of the example's shapes, raised an error, at "
        "every point where it was tried. The message has its own words.",
        "Call it yourself with the example. Its names and shapes are those that a fit uses.",
    ),
    "E105": Entry(
        "A log density that is not one real number",
        "log p̂ of one point is one float. An array, a tuple or an integer was returned.",
        "Sum over observations, with `.sum()`, and compute the value from the parameters.",
    ),
    "E107": Entry(
        "No place to start",
        "The density is zero or undefined, or its gradient is, at every start that was tried; or "
        "it is infinite at one of them.",
        "Give restricted parameters their supports, give an example inside the region where the "
        "density is positive, and look for logarithms and roots of negative numbers.",
    ),
    "E108": Entry(
        "A wrong gradient",
        "The gradient that the code returns disagrees with finite differences of log p̂.",
        "Look for a term that only one of the two has, and for a sign: both belong to log p̂, "
        "neither of them negated.",
    ),
    "E109": Entry(
        "A random log density",
        "Two evaluations at one point differ, as with random numbers or minibatches. The KL of "
        "such a density has no minimum to find.",
        "Give all data. Many rows go through `infimum.Rows`, which takes them block by block.",
    ),
    "E110": Entry(
        "No gradient",
        "A solver, a correction or a family needs the gradient of log p̂, and this target has none.",
        "State the density in JAX or PyTorch, or return `(value, gradient)`. Without one, fit a "
        "Gaussian family, and correct by `infimum.corrections.mcmc(fit, n, "
        'kernel="independence")`.',
    ),
    "E120": Entry(
        "A discrete parameter",
        "A parameter holds integers or has a discrete support; q is a density on continuous ones.",
        "Write a float, `0.0` and not `0`, if it is continuous. Sum a discrete one out of the "
        "density, as by a mixture over its values.",
    ),
    "E121": Entry(
        "An example that can't be",
        "The example's value of a parameter is not finite, or outside the support given for it.",
        "Give a value inside the support; or zeros, to say the shape only.",
    ),
    "E122": Entry(
        "Nothing to fit",
        "The target has no parameter that can vary.",
        "Give it at least one continuous parameter that is not observed and not fixed.",
    ),
    "E123": Entry(
        "A name twice",
        "Two parameters, two scalar quantities or two columns have the same name, so that no "
        "answer could say which is which.",
        "Rename one of the two.",
    ),
    "E130": Entry(
        "Not a support",
        "What is given as a support is none, or has a name that is not known.",
        "Give one of `infimum.supports` or its name, a NumPyro constraint, or a function of the "
        "other parameters that returns one of these.",
    ),
    "E131": Entry(
        "Bounds in the wrong order",
        "An interval's lower bound is not below its upper one.",
        "Swap them, or look how they were computed.",
    ),
    "E132": Entry(
        "A support that does not fit its parameter",
        "The support is of arrays of another shape than the example's: a simplex needs an axis, a "
        "correlation matrix is square, and bounds must not make a parameter larger.",
        "Give the example the shape that the support has, or another support.",
    ),
    "E134": Entry(
        "A support that names no parameter",
        "A support is given for a name that the example does not have; or a support that is a "
        "function of other parameters asks for one that is not there, or not yet.",
        "Use the example's own names. A support may depend on parameters whose supports are fixed.",
    ),
    "E201": Entry(
        "Not a family",
        "What is given as a family is none, or has a name that is not known.",
        'Give `"auto"`, one of the names in the message, or a Family such as '
        "`infimum.families.LowRank(rank=3)`.",
    ),
    "E202": Entry(
        "A start of another kind",
        "A family goes on from a member of another one only where it can take it over: most from "
        "a Gaussian, a flow from any q that is a map of normal draws.",
        "Begin with the family's own `init`, or with a member that it can take over.",
    ),
    "E203": Entry(
        "A family's own option",
        "A field of a family, such as `rank` or `components`, is not the whole number that it must "
        "be, or larger than the target allows.",
        "Give a positive integer, for a rank one below the dimension; or None, where the family "
        "can choose by itself.",
    ),
    "E210": Entry(
        "No hierarchy to non-centre",
        "The noncentred family moves the parts of a hierarchy by its locations and scales. It "
        "knows these from NumPyro models only, and this target has none.",
        'State the model with `infimum.from_numpyro`, or take `family="fullrank"`.',
    ),
    "E211": Entry(
        "Too many dimensions for this family",
        "The family holds a dense matrix, which is out of reach in so many dimensions.",
        'Take `"sparse"` or `"lowrank"`, or a flow on one of them: `Flow(base="sparse")`.',
    ),
    "E212": Entry(
        "A hierarchy that is not finite",
        "At the fit from which the noncentred family starts, a location or a scale is not finite.",
        'Look for a scale that overflows or is zero there, or take `family="fullrank"`.',
    ),
    "E220": Entry(
        "No Hessian",
        "The sparse family is made from the Hessian of log p̂. It can't be had: the code is "
        "outside JAX, has no second derivative, or is not finite where it was tried.",
        'Look for kinks, as in `sqrt(0)` or abs; or fit `"fullrank"` or `"lowrank"`.',
    ),
    "E222": Entry(
        "Not sparse",
        "The Hessian of log p̂, or its triangular factor, has few zeros: the sparse family would "
        "be slower than a dense one.",
        'Fit `"fullrank"`, or `"lowrank"` where the dimension is large.',
    ),
    "E223": Entry(
        "A pattern that does not fit",
        "Edges given for the sparse family are no pairs of coordinates of this target, or lack "
        "pairs that its Hessian couples.",
        "Give every coupled pair as a column of integers, or leave the pattern to be found.",
    ),
    "E225": Entry(
        "A fit without a pattern",
        "A picture or a correction is about the sparsity pattern of q, and this q has none.",
        'Fit with `family="sparse"`.',
    ),
    "E230": Entry(
        "Not enough memory",
        "What the family needs in this dimension is more than the machine has.",
        "Fit one of the families that the message names, or use a larger machine.",
    ),
    "E301": Entry(
        "Not a target",
        "`fit` and `climb` take an `infimum.Target`; a function or a model alone does not say the "
        "shapes of its parameters.",
        "Wrap a function in `infimum.Target(log_density, example)`, and a model by "
        "`from_numpyro`, `from_pymc`, `from_stan`, `from_torch` or `from_numpy`.",
    ),
    "E302": Entry(
        "A count that is none",
        "A number of draws, chains, starts, steps, rows or the like is not an integer, or is "
        "smaller than the least that makes sense.",
        "Give an integer of at least what the message says.",
    ),
    "E303": Entry(
        "A limit that is none",
        "A tolerance or a budget is not a positive, finite number.",
        "Give nats for `tol` and `tolerance`, seconds for a `budget`; or leave it out.",
    ),
    "E304": Entry(
        "A seed that is none",
        "A seed decides everything random. It is an integer of at least 0, or a JAX key.",
        "Give an int such as `0`, or `jax.random.key(0)`.",
    ),
    "E305": Entry(
        "A ladder that can't be climbed",
        "A ladder is a list of different families, at least one.",
        'Give a list such as `["meanfield", "fullrank", "flow"]`, or `"auto"`.',
    ),
    "E306": Entry(
        "An unknown choice",
        "An option that takes one of a few words was given another one.",
        "Give one of those in the message.",
    ),
    "E310": Entry(
        "A solver that is of no use here",
        "What is given as a solver is none, or can't move members of this family.",
        "Leave `solver` out to have the right ones chosen, or give one that the message names.",
    ),
    "E401": Entry(
        "A loaded fit lacks its model",
        "A file holds q and its numbers, and neither the model's code nor its data. What was "
        "asked for needs them.",
        "Use the original fit, or fit again. A target that was built again is put back by "
        "`dataclasses.replace(fit, target=target)`.",
    ),
    "E403": Entry(
        "More draws than there are",
        "Draws of this kind are made once and stored; more were asked for.",
        "Ask for fewer, or make more of them: correct the fit again, or use the original fit.",
    ),
    "E404": Entry(
        "Weights that say nothing",
        "Draws can't be reweighted where the density is zero or undefined at draws from q, or "
        "where the weights rest on too few of them.",
        "Do what `fit.advice` says: usually give parameters their supports, or fit a larger "
        "family.",
    ),
    "E405": Entry(
        "Too few draws of use",
        "Distinct draws, or draws of positive weight and finite gradient, are fewer than asked "
        "for.",
        "Ask for fewer, draw with replacement, or do what `fit.advice` says.",
    ),
    "E410": Entry(
        "An unknown quantity",
        "There is no parameter and no entry of one by this name.",
        "Take a name from the message, from `fit.summary()`, or of a whole parameter.",
    ),
    "E411": Entry(
        "Draws of another form",
        "Draws are of other parameters, or of other shapes, than those of the target.",
        "Give them as `fit.sample(n)` does: the parameters' structure, with one leading axis.",
    ),
    "E420": Entry(
        "Not a saved fit",
        "The file was not written by `Fit.save`, or has changed since. Nothing in it was executed.",
        "Take another copy of the file, or save the fit again.",
    ),
    "E421": Entry(
        "A saved fit of another version",
        "The file was written by a version of infimum that wrote them otherwise.",
        "Load it with that version, or fit and save again.",
    ),
    "E430": Entry(
        "Not a fit",
        "`infimum.predict` takes a fit, and was given something else.",
        "Fit first: `infimum.predict(infimum.fit(target))`.",
    ),
    "E431": Entry(
        "A model that does not predict",
        "Predictions need code that draws new data, and the target has none: it is a bare log "
        "density, was loaded from a file, or is a Stan program without generated quantities.",
        "Compute them from `fit.sample(n)`, or state the model in a language that draws data.",
    ),
    "E432": Entry(
        "No likelihood of single observations",
        "The log density does not tell observations apart: it is one sum, or discrete sites that "
        "they share are summed out.",
        "State the model with `from_numpyro` or `from_pymc`, or in Stan with `log_lik` among the "
        "generated quantities.",
    ),
    "E433": Entry(
        "Predictions too large for memory",
        "A number for each row and each draw would not fit into memory.",
        "Ask for predictions of new, fewer rows.",
    ),
    "E434": Entry(
        "New data of the wrong kind",
        "Each language takes new data in a form of its own: PyMC a dict for its `pm.Data`; Stan a "
        "dict, a .json file or another compiled model with the same parameters.",
        "Give them in the form that the message shows.",
    ),
    "E501": Entry(
        "Not data in rows",
        "Data are arrays of numbers with rows along their first axis, a data frame, a Parquet "
        "file, or something that gives blocks of these.",
        "Make arrays of lists, code text and dates as numbers, and let `log_likelihood` close "
        "over what is the same for all rows.",
    ),
    "E502": Entry(
        "Data that can't be iterated again",
        "A fit goes through the data many times, and must know how many rows there are.",
        "Give a list, or an object whose `__iter__` begins anew, and `n_rows` with it.",
    ),
    "E504": Entry(
        "Row counts that disagree",
        "Arrays have different numbers of rows; or the data gave another number than `n_rows` "
        "says.",
        "Put the rows first in every array, and leave `n_rows` out where the data say it.",
    ),
    "E505": Entry(
        "No rows",
        "The data hold no row.",
        "Look how they were selected, and give at least one.",
    ),
    "E507": Entry(
        "Missing values",
        "Entries are masked or null. What they mean is the model's business.",
        "Leave their rows out, or fill them and give a column that says where they are.",
    ),
    "E508": Entry(
        "A block unlike the first",
        "Blocks must have the same columns and dtypes, and rows along the first axis of each.",
        "Make every block in the same way, down to the dtypes.",
    ),
    "E510": Entry(
        "A data file that changed or can't be read",
        "The file is no Parquet file; or it has changed or disappeared since it was opened, so "
        "that no answer would belong to either version.",
        "Fit anew on a file that stays as it is.",
    ),
    "E520": Entry(
        "A likelihood that raises",
        "`log_likelihood`, called with some of the rows, raised an error. The message has its "
        "words and the shapes it was given.",
        "Write it for any number of rows, and call it yourself with the first few.",
    ),
    "E521": Entry(
        "A likelihood of the wrong shape",
        "`log_likelihood` returns one number for all rows that it is given; with local variables, "
        "one for each.",
        "Sum over the rows, with `.sum()`; with local variables over what is inside a row only.",
    ),
    "E523": Entry(
        "A likelihood that is no sum over rows",
        "Two halves of some rows do not add up to what they give together. Blocks of rows would "
        "then give another density than all rows at once.",
        "Sum, do not average, and move what does not depend on rows into `log_prior`. Rows that "
        "depend on each other can't be used one block at a time.",
    ),
    "E524": Entry(
        "A likelihood that mixes rows",
        "The value of a row changes with the rows beside it.",
        "Let it depend on that row and its own local variables only.",
    ),
    "E525": Entry(
        "A row that is undefined",
        "The log-likelihood of a row is NaN. The message has its number and what it holds.",
        "Leave such rows out, or write the likelihood so that it is defined there.",
    ),
    "E530": Entry(
        "Local variables that can't be integrated",
        "The local variables of a row are integrated numerically. There are too many of them, or "
        "what is given as `local` does not state variables.",
        "Make rows smaller, give `local` as an example of one row, and put variables that rows "
        "share among the parameters.",
    ),
    "E531": Entry(
        "No local variables",
        "Draws of local variables were asked for, and the target has none.",
        "Declare them with `infimum.Rows(local=...)`.",
    ),
    "E532": Entry(
        "Numbers of rows",
        "Rows are asked for by numbers that are not integers, not ascending, or not there.",
        "Give ascending integers such as `[0, 3]`, all below the number of rows.",
    ),
    "E601": Entry(
        "Not a model of this language",
        "`from_numpyro` takes a model function, `from_pymc` a `pymc.Model`, `from_stan` a "
        "`bridgestan.StanModel` or the path of a program.",
        "Give that, or use the function of the language that the model is in.",
    ),
    "E602": Entry(
        "A library is not installed",
        "What was asked for needs a library that infimum installs only with an extra.",
        "Install it by the command in the message.",
    ),
    "E603": Entry(
        "Arguments that a model does not take",
        "A NumPyro model was called without the arguments it needs, or a compiled Stan model was "
        "given data, which it has already.",
        "Give a NumPyro model what it is called with, and Stan data with the path of a program.",
    ),
    "E610": Entry(
        "A parameter to be optimised",
        "A `numpyro.param` is a constant that another method would optimise; there is no "
        "posterior of it.",
        "Give it a prior with `numpyro.sample`, or bind its value.",
    ),
    "E611": Entry(
        "No plate of rows",
        "With `rows=` a model's observations are divided by a plate. There is none by that name, "
        "or no data as long as it.",
        "Put the observations into a plate over the rows, name it, and give all data as arguments.",
    ),
    "E612": Entry(
        "A model that needs the values of its data",
        "Rows arrive block by block, and the model raised where it was run without their values.",
        "Take what Python or NumPy computes from data, such as a number of groups, as an argument "
        "of its own.",
    ),
    "E614": Entry(
        "A site on the wrong side of its plate",
        "Inside the plate of rows are observations only; outside it nothing depends on the rows.",
        "Move an observation into the plate, compute beforehand what a prior or a bound takes "
        "from data, and write local variables with `infimum.Rows(..., local=...)`.",
    ),
    "E620": Entry(
        "A bounded variable without a transform",
        "A PyMC variable has `default_transform=None` though its distribution is bounded, so that "
        "log p̂ is undefined outside.",
        "Leave `default_transform` as it is.",
    ),
    "E630": Entry(
        "BridgeStan is missing or old",
        "A Stan program is compiled by BridgeStan's toolchain, of the version in the message or "
        "later.",
        "Install it as https://roualdes.github.io/bridgestan says, and compile the program again.",
    ),
    "E640": Entry(
        "Tensors on several devices",
        "The example's tensors are not all on one device, and the density is evaluated on one.",
        "Move them to one, with `.to(device)`.",
    ),
    "E651": Entry(
        "An answer that is no value and gradient",
        "A function for `from_numpy` returns log p̂ as a float and its gradient as float64 of the "
        "shape of x, or log p̂ alone.",
        "Return `(value, gradient)` with these shapes, in double precision.",
    ),
    "E652": Entry(
        "Names of coordinates",
        "`names` gives every coordinate a name of its own; those with an index make an array.",
        'Give as many different names as `dim`, such as `["mu", "theta[0]", "theta[1]"]`.',
    ),
    "E701": Entry(
        "Not a folder for a checkpoint",
        "A checkpoint is a folder of its own, which is made if it is not there. A file is in its "
        "place, or the folder holds something else.",
        "Give the path of a new folder, or that of the checkpoint to go on from.",
    ),
    "E703": Entry(
        "A damaged checkpoint",
        "The folder lacks a part, or a part is not as it was written. Nothing in it was changed.",
        "Put back a copy of it, or give another folder and begin anew.",
    ),
    "E704": Entry(
        "A checkpoint of another job",
        "It was made with other arguments, another density or other data, or on a machine that "
        "rounds otherwise. Nothing in it was changed.",
        "Ask for what it was made for, or give another folder.",
    ),
    "E706": Entry(
        "A checkpoint in use",
        "Another fit writes to this folder.",
        "Wait for it to end, or give another folder.",
    ),
    "E707": Entry(
        "A checkpoint of another version",
        "It was written by a version of infimum that wrote them otherwise.",
        "Use that version, or give another folder and begin anew.",
    ),
    "E720": Entry(
        "A distributed run that can't begin",
        "The processes did not find each other.",
        "Start them by Slurm, Open MPI or Kubernetes, or say in each where process 0 is, how many "
        "there are and which one it is.",
    ),
    "E721": Entry(
        "Another process has ended",
        "A process of a distributed run failed or ended, and the others can't go on without it.",
        "Look at its own output for the cause, then start all again; a checkpoint keeps the work.",
    ),
    "E723": Entry(
        "Processes that do not agree",
        "The processes of a distributed run were given different things where they must have the "
        "same.",
        "Run the same file with the same arguments in all; only the rows may differ.",
    ),
    "E724": Entry(
        "An option for one process, or for several",
        "Some options need several processes, and some can't be shared by them.",
        "Leave the option out, or run as the message says.",
    ),
    "E801": Entry(
        "No correction applies",
        "Each way to correct the fit was refused, for the reason that the message gives.",
        "Fit a larger family, and correct that.",
    ),
    "E802": Entry(
        "Too large for linear response",
        "Linear response differentiates by each parameter of q: it needs a family that has "
        "coordinates, and not too many of them.",
        "Fit a smaller family such as meanfield, or use another correction.",
    ),
    "E804": Entry(
        "q is not at a minimum",
        "Linear response is about the minimum of the KL, and at this q the KL still falls.",
        "Fit to convergence first; `fit.reason` says why it ended.",
    ),
    "E805": Entry(
        "No way from q to the posterior",
        "p̂ is zero or undefined at nearly all draws from q, so that annealing has nowhere to "
        "begin.",
        "Give parameters the supports they live on, or fit a larger family.",
    ),
    "E806": Entry(
        "Groups that are not small and apart",
        "The correction by blocks integrates small groups of coordinates that depend on each "
        "other through few hubs only. These do not.",
        "Use another correction, such as `infimum.corrections.mcmc`, or fit a larger family.",
    ),
    "E811": Entry(
        "Nothing to compare",
        "A comparison takes at least two fits, and as many different names as fits.",
        "Give two or more, or leave the names out.",
    ),
    "E813": Entry(
        "An evidence that is not to be believed",
        "A Bayes factor of an estimate without a known error would be a guess.",
        "Fit a larger family to the models that the message names, or do what `fit.advice` says.",
    ),
    "E820": Entry(
        "What to calibrate",
        "A calibration simulates data, from a NumPyro model and its arguments, or by a function "
        "of a random generator; from one of the two, and not from a target that has its data.",
        "Write `calibrate(model, *args)` or `calibrate(simulate=function)`.",
    ),
    "E821": Entry(
        "No data set could be fitted",
        "Every simulated data set ended in an error, of which the message has the first.",
        "Fit one of them by hand, and mend what it says.",
    ),
    "E822": Entry(
        "Simulated parameters that do not fit",
        "`simulate` returns the true parameters and the target given the data drawn from them, and "
        "the parameters are of the target's shapes and inside its supports.",
        "Return `(params, target)`, params as the target's example has them.",
    ),
    "E824": Entry(
        "Worker processes can't do it",
        "Workers import what they run, each in memory of its own. They can't import this, or one "
        "of them ended early.",
        'Define the model in a module, have a script work under `if __name__ == "__main__"` only, '
        "or leave out workers.",
    ),
    "E826": Entry(
        "A model that can't be simulated from",
        "Data sets are drawn from a model's prior and observed sites. It has none, or its density "
        "is not that of what it draws, as with factors and scaled sites.",
        "Give the model data and proper priors, or state how to draw with `simulate=`.",
    ),
    "E901": Entry(
        "No such file",
        "There is no file at this path.",
        "Look at the path, and at the folder that it is relative to.",
    ),
    "E902": Entry(
        "Quantities that can't be drawn",
        "A picture has room for few quantities, all of which vary; fits in one picture share them.",
        "Name single entries, such as `'theta[0]'`, and fits of one target.",
    ),
    "E905": Entry(
        "An observed site that can't be drawn",
        "There is no observed site by this name, or the model draws nothing in its place.",
        "Take a name from the message, and let the model sample the site where it is not given.",
    ),
    "E906": Entry(
        "An option of a picture",
        "Axes are not as many as the picture has panels, or masses are not between 0 and 1.",
        "Give what the message expects, or leave the option out.",
    ),
    "E911": Entry(
        "An unknown kind of file",
        "The ending of the name says what is written, and nothing is written by this one.",
        "Give a name with one of the endings in the message.",
    ),
    "E912": Entry(
        "No place to write",
        "The folder is not there, or the path is itself a folder.",
        "Make the folder first, and give the name of a file in it.",
    ),
    "E913": Entry(
        "Neither Python nor Stan",
        "A model is stated in a Python file, or a Stan program with its data.",
        "Give `FILE.py:NAME`; or `FILE.stan` with `--data`, where the command takes one.",
    ),
    "E915": Entry(
        "Which model to fit",
        "The name in the file is missing, is one of several, or is nothing that can be fitted.",
        "Give `FILE.py:NAME`, with the name of an `infimum.Target`, a model, or a function "
        "without arguments that returns one.",
    ),
    "E917": Entry(
        "A model that needs arguments",
        "The command line can't give a model its data.",
        "Bind them in the file, in a function without arguments, as the message shows.",
    ),
    "E918": Entry(
        "An error in the file",
        "The file raised an error while it was read, or its Stan program was refused.",
        "Run it by itself: the message has the line.",
    ),
    "E920": Entry(
        "An unknown code",
        "Codes are E or W and three digits, at the end of a message.",
        "Take the code from the message, or look at the page of errors in the documentation.",
    ),
    "W101": Entry(
        "A checkpoint that is written no more",
        "Writing to the checkpoint's folder failed. The fit goes on, and saves nothing from here "
        "on.",
        "See that there is room, and that the folder can be written; what was saved can still be "
        "gone on from.",
    ),
    "W102": Entry(
        "Single precision is too coarse",
        "In float32 a sum over so many rows is rounded by more than a fit can do with.",
        'Give `precision="float64"`, or centre and scale the data.',
    ),
}
"""Every code, in order."""
