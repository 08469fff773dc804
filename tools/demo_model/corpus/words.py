"""Closed vocabularies: of modest size, so that a model of five million parameters can know all of them."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: Final = _words(
    """
    Ada Adam Agnes Alan Alba Alex Alice Amir Amy Anna Anton Aris Asha Ben Bella Bea Boris Bruno Carl Carla Cleo Clara
    Cora Dan Dana Dario Dora Eli Ella Elsa Emil Emma Enzo Erik Esme Eva Ezra Fay Felix Finn Flora Fred Gina Grace
    Greta Gus Hana Hans Hazel Heidi Hugo Ida Igor Ines Ira Iris Ivan Jack Jana Jim Joan Joel Jonas Julia June Kai
    Kara Karl Kate Ken Kim Klara Lars Lea Lena Leo Lily Lina Lola Luca Lucy Luis Mara Marco Mark Mary Max Maya Mia
    Mila Milo Mina Nadia Nils Nina Noah Nora Olga Oscar Otto Owen Pablo Paul Petra Pia Quinn Ravi Rita Rosa Ruben
    Ruth Sam Sara Sven Tara Theo Tim Tina Tom Uma Vera Victor Wanda Will Yara Yuki Zara Zoe
    """
)
PET_NAMES: Final = _words(
    """
    Rex Bello Biscuit Bubbles Cookie Daisy Fluffy Ginger Cocoa Jasper Lucky Luna Maxi Mocha Molly Muffin Nacho Nutmeg
    Oreo Patch Peanut Pepper Pickle Pixie Rusty Sandy Shadow Snowy Socks Spot Sunny Tiger Toffee Waffle Whiskers Ziggy
    """
)
PETS: Final = _words("dog cat horse rabbit parrot hamster turtle goat goldfish pony duck pig lizard snake")
CITIES: Final = _words(
    """
    Amsterdam Ankara Athens Baku Bangkok Berlin Bern Bogota Boston Brussels Budapest Cairo Chicago Cologne Copenhagen
    Dallas Delhi Denver Dublin Florence Geneva Hamburg Hanoi Havana Helsinki Istanbul Jakarta Kiev Kyoto Lagos Lima
    Lisbon London Lyon Madrid Manila Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples Osaka Oslo Paris Porto
    Prague Quito Riga Rome Santiago Seattle Seoul Seville Shanghai Sofia Stockholm Sydney Tallinn Tokyo Toronto
    Tunis Turin Vienna Vilnius Warsaw Zagreb Zurich
    """
)
COLORS: Final = _words(
    """
    red blue green yellow orange purple pink brown black white gray gold silver violet turquoise beige crimson teal
    indigo lime
    """
)
JOBS: Final = _words(
    """
    teacher doctor baker farmer pilot nurse painter writer singer driver gardener cook dentist plumber sailor dancer
    tailor judge carpenter waiter actor chemist engineer lawyer
    """
)
THINGS: Final = _words(
    """
    lamp chair table clock mirror carpet basket bottle hammer pencil notebook backpack umbrella blanket pillow kettle
    bicycle guitar piano camera candle vase scarf jacket helmet ladder bucket shovel towel wallet
    """
)
ROOMS: Final = _words("kitchen bedroom bathroom garage hall office cellar attic garden nursery library lounge")
DISHES: Final = _words(
    "pizza pasta soup salad curry sushi burger pancakes risotto lasagna tacos noodles stew omelet dumplings pie"
)
TOPICS: Final = _words(
    """
    sports music science weather money travel food health art history cars space games books movies animals gardens
    trains robots politics
    """
)
LANGUAGES: Final = _words("French German Spanish Italian Dutch Polish Greek Swedish Turkish Danish Finnish Czech")
DAYS: Final = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS: Final = _words("January February March April May June July August September October November December")

# Any words, to be said again, searched for, put into titles.
WORDS: Final = _words(
    """
    apple anchor angle arrow autumn balloon banana barrel beach bean bell berry bird blossom boat bone book branch
    brass bread breeze brick bridge broom bubble butter button cabin cable cactus cake camel candle canyon carpet
    castle cave chain chalk cherry circle cliff cloud clover coast coin comet copper coral corner cotton crane creek
    crown crystal curtain desert diamond dolphin donkey door dragon drum eagle earth echo elbow ember engine falcon
    feather fence field finger fire flame flute forest fountain fox frost garden garlic gate ghost glacier glass glove
    grape gravel hammer harbor harp hawk helmet honey horizon horn ice iron island ivory jar jewel jungle kettle key
    kite knot lagoon lake lantern leaf lemon library lighthouse lime lion lizard magnet maple marble market meadow
    melon mill mint mirror mist moon moss mountain mouse music nail needle nest night north oak ocean olive onion
    orange orchard otter owl paint panda paper parade pearl pebble pepper piano pillow pine planet plum pocket pond
    powder prism puddle pumpkin puzzle quartz quilt rabbit rain rainbow raven ribbon rice ring river robin rocket roof
    root rope rose saddle sail salt sand school shadow sheep shell ship silk silver sky smoke snow spark spider spoon
    spring square squirrel star stone storm street sugar summer sun swan table tea thunder ticket tiger timber tower
    train tree tulip tunnel turtle valley velvet violin voice walnut water wave wheel whistle willow wind window
    winter wolf wood wool yarn zebra
    """
)

SYSTEMS: Final = (
    "You are a helpful assistant.",
    "You are a helpful, friendly assistant.",
    "You are a kind assistant. Answer in short sentences.",
    "Answer briefly.",
    "Be brief and correct.",
    "You answer questions of people who try this program.",
    "You are an assistant that says true things.",
    "Help the user.",
)
