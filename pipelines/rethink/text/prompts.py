"""Few-shot prompts, in our own words."""

FEW_SHOT: dict[str, tuple[tuple[str, str], ...]] = {
    "strategyqa": (
        (
            "Could a person walk from Lisbon to Madrid without a passport check?",
            "Lisbon is in Portugal and Madrid is in Spain. Both countries belong to the Schengen area. There are no "
            "routine checks at borders inside the Schengen area. So the answer is yes.",
        ),
        (
            "Would a goldfish outlive a giant tortoise that was born on the same day?",
            "Goldfish live for about ten years, seldom for more than forty. Giant tortoises often live for more than a "
            "hundred years. So the answer is no.",
        ),
        (
            "Can a string quartet perform at a venue that has only three chairs, all players seated?",
            "A string quartet has four players. Each seated player needs a chair. Three chairs are fewer than four. So "
            "the answer is no.",
        ),
        (
            "Did the first moon landing happen within the lifetime of Pablo Picasso?",
            "Pablo Picasso lived from 1881 to 1973. The first moon landing was in 1969. The year 1969 lies between "
            "1881 and 1973. So the answer is yes.",
        ),
        (
            "Is it possible to ski on natural snow at sea level on the equator?",
            "Natural snow needs temperatures near or below freezing. At sea level on the equator it is warm all year. "
            "So the answer is no.",
        ),
        (
            "Would someone who is allergic to shellfish avoid a classic shrimp cocktail?",
            "A shrimp cocktail is made of shrimp. Shrimp are shellfish. People avoid what they are allergic to. So the "
            "answer is yes.",
        ),
    ),
    "tempquestions": (
        (
            "Who was the American president when the Berlin Wall fell?",
            "The Berlin Wall fell in November 1989. George H. W. Bush was president of the United States from January "
            "1989 to January 1993. So the answer is George H. W. Bush.",
        ),
        (
            "Which city hosted the summer Olympics in the year in which the euro became cash?",
            "The summer Olympics nearest to the coming of euro cash in 2002 were those of 2000 and 2004. No summer "
            "Olympics were held in 2002. So the answer is none.",
        ),
        (
            "Who was pope when Galileo was tried in 1633?",
            "Galileo was tried in 1633. Urban VIII was pope from 1623 to 1644. So the answer is Urban VIII.",
        ),
        (
            "What was the capital of West Germany when the Beatles broke up?",
            "The Beatles broke up in 1970. Bonn was the capital of West Germany until 1990. So the answer is Bonn.",
        ),
        (
            "Who was the British monarch when the First World War ended?",
            "The First World War ended in 1918. George V reigned from 1910 to 1936. So the answer is George V.",
        ),
        (
            "Which country held the football World Cup when the Soviet Union broke up?",
            "The Soviet Union broke up in 1991. West Germany won the World Cup in 1990, and the next one was in 1994. "
            "So the answer is Germany.",
        ),
    ),
    "infotabs": (
        (
            "Table: Harbour Bridge. Opened: 1932. Length: 1,149 m.\nStatement: The bridge is longer than a kilometre.",
            "The length of the bridge is 1,149 metres. One kilometre is 1,000 metres. So the answer is yes.",
        ),
        (
            "Table: Harbour Bridge. Opened: 1932. Length: 1,149 m.\nStatement: The bridge was opened after the Second "
            "World War.",
            "The bridge was opened in 1932. The Second World War ended in 1945. So the answer is no.",
        ),
        (
            "Table: Clara Stein. Occupation: painter, printmaker. Born: 4 May 1901.\nStatement: Clara Stein had more "
            "than one occupation.",
            "The table names painter and printmaker. Those are two occupations. So the answer is yes.",
        ),
        (
            "Table: Clara Stein. Occupation: painter, printmaker. Born: 4 May 1901.\nStatement: Clara Stein was born "
            "in the nineteenth century.",
            "Clara Stein was born in 1901. The nineteenth century ended in 1900. So the answer is no.",
        ),
        (
            "Table: Blue Tram. Genre: folk, rock. Length: 38:12.\nStatement: Blue Tram runs for under forty minutes.",
            "The length is 38 minutes and 12 seconds. That is less than forty minutes. So the answer is yes.",
        ),
        (
            "Table: Blue Tram. Genre: folk, rock. Length: 38:12.\nStatement: Blue Tram is a jazz record.",
            "The genres are folk and rock. Jazz is not among them. So the answer is no.",
        ),
    ),
}


def prompt(task: str, question: str) -> str:
    """Return the few-shot prompt of a task with a question at its end."""
    shown = [f"Question: {asked}\nAnswer: {said}" for asked, said in FEW_SHOT[task]]
    return "\n\n".join([*shown, f"Question: {question}\nAnswer:"])
