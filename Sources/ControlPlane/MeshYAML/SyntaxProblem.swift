import Yams

/// What Yams and libyaml say about a text, in words for somebody who wrote it.
struct SyntaxProblem {
    var mark: YAMLNode.Mark?
    var text: String

    init(_ error: any Error, in yaml: String) {
        guard let error = error as? YamlError else {
            text = "not YAML: \(error)"
            return
        }
        switch error {
        case .scanner(let context, let problem, let place, _), .parser(let context, let problem, let place, _),
            .composer(let context, let problem, let place, _):
            mark = YAMLNode.Mark(line: place.line, column: place.column)
            text = Self.words(for: problem, context: context, at: place, in: yaml)
        case .duplicatedKeysInMapping(let duplicates, let context):
            mark = YAMLNode.Mark(line: context.mark.line, column: context.mark.column)
            text = "the mapping has the key \(duplicates.map(\.quoted).joined(separator: ", ")) more than once"
        case .reader(_, let offset, let value, _):
            mark = offset.map { Self.mark(ofCharacter: $0, in: yaml) }
            text =
                value < 0
                ? "a character that YAML does not allow" : "the character U+\(String(value, radix: 16, uppercase: true)) is not allowed"
        case .memory:
            text = "lists and mappings nest too deeply"
        case .no, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
            text = "not YAML: \(error)"
        }
    }

    private static func words(for problem: String, context: YamlError.Context?, at place: Mark, in yaml: String) -> String {
        let since = context.map { ", in what starts at line \($0.mark.line)" } ?? ""
        switch problem {
        case "found character that cannot start any token":
            let character = character(at: place, in: yaml)
            if character == "\t" { return "a tab; YAML indents with spaces only" }
            return character.map { "\(String($0).quoted) cannot start a value; put it in quotes" }
                ?? "a character that cannot start a value"
        case "mapping values are not allowed in this context":
            return "a second \": \" in one value: check the indentation, or put the value in quotes"
        case "could not find expected ':'": return "expected \": \" behind a key\(since)"
        case "did not find expected key": return "expected a key here: check the indentation\(since)"
        case "did not find expected '-' indicator": return "expected \"- \" here: check the indentation\(since)"
        case "did not find expected ',' or ']'": return "expected \",\" or \"]\"\(since)"
        case "did not find expected ',' or '}'": return "expected \",\" or \"}\"\(since)"
        case "did not find expected <document start>": return "expected \"---\" or the end of the file"
        case "did not find expected node content": return "expected a value here\(since)"
        case "block sequence entries are not allowed in this context": return "\"- \" is not allowed here: check the indentation"
        case "block mapping keys are not allowed in this context", "mapping keys are not allowed in this context":
            return "a key is not allowed here: check the indentation"
        case "found unexpected end of stream": return "the file ends inside of a value\(since)"
        case "found undefined alias": return "an alias without its anchor"
        case "found a tab character that violates indentation", "found a tab character where an indentation space is expected":
            return "a tab; YAML indents with spaces only"
        case let problem where problem.hasPrefix("Maximum nesting level"):
            return "more than \(YAMLStream.maxDepth) levels of lists and mappings"
        default: return problem + since
        }
    }

    private static func character(at place: Mark, in yaml: String) -> Unicode.Scalar? {
        var line = 1
        var column = 1
        for scalar in yaml.unicodeScalars {
            if line == place.line, column == place.column { return scalar }
            if scalar == "\n" {
                line += 1
                column = 1
                if line > place.line { return nil }
            } else {
                column += 1
            }
        }
        return nil
    }

    private static func mark(ofCharacter offset: Int, in yaml: String) -> YAMLNode.Mark {
        let before = yaml.prefix(offset).unicodeScalars
        let line = before.count { $0 == "\n" } + 1
        let lineStart = before.lastIndex(of: "\n").map(before.index(after:)) ?? before.startIndex
        return YAMLNode.Mark(line: line, column: before[lineStart...].count + 1)
    }
}
